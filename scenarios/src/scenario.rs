//! A scenario as it was written: its file, then what the command line sets over it. Nothing is judged here but TOML's
//! syntax and the form of `--set`; [`crate::plan`] judges the rest, so that all errors are told at once.

use crate::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
use crate::keys;
use crate::tree::{At, Node, Table, Value, bare, parse_document, parse_value};
use sim_models::kube::import::{ImportError, import};
use sim_models::kube::objects::Objects;
use std::sync::Arc;

/// A scenario as written.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Stem of the file's name: what its results are called.
    pub name: String,
    pub(crate) root: Table,
    /// Its texts, and what is already known to be wrong with overrides and the import.
    pub(crate) pending: Diagnostics,
    /// The imported cluster, once its text was handed over.
    pub(crate) objects: Option<Arc<Objects>>,
    /// Name and text of kube-proxy's configuration, once it was handed over.
    pub(crate) proxy_config: Option<(String, String)>,
}

impl Scenario {
    /// Parses the text of `file`, a path used for messages and the name.
    ///
    /// # Errors
    /// All syntax errors of the text.
    pub fn parse(file: &str, text: &str) -> Result<Scenario, Diagnostics> {
        // Some editors begin a file with a byte order mark; columns are counted without it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut pending = Diagnostics::default();
        let source = pending.sources.add(file, text);
        match parse_document(source, text) {
            Ok(Node { value: Value::Table(root), .. }) => {
                Ok(Scenario { name: stem(file), root, pending, objects: None, proxy_config: None })
            }
            Ok(node) => panic!("a TOML document is a table, not {}", node.value.kind()),
            Err(errors) => {
                for (message, at) in errors {
                    pending.push(Diagnostic::new(at, "", format!("TOML syntax: {message}")));
                }
                Err(pending)
            }
        }
    }

    /// Sets a key over the file's value: `cluster.services=8000`, `duration=5s`, `proxy.modes=["ipvs"]`. A value that
    /// is not TOML is text. Setting a swept key pins it: the value becomes
    /// the only one of its list. Errors are told with the plan.
    pub fn set(&mut self, assignment: &str) {
        let source = self.pending.sources.add("--set", assignment);
        let Some((path, text)) = assignment.split_once('=') else {
            let at = At { source, start: 0, end: assignment.len() };
            let d = Diagnostic::new(at, "", "`--set` takes KEY=VALUE")
                .help("for example: --set cluster.services=8000");
            self.pending.push(d);
            return;
        };
        let path_at = At { source, start: 0, end: path.len() };
        let path = path.trim();
        let offset = assignment.len() - text.len();
        let at = At { source, start: offset, end: assignment.len() };
        let node = match parse_value(source, text) {
            Some(node) => Node { at, value: node.behind(offset).value },
            None => Node { at, value: Value::Text(text.trim().to_owned()) },
        };
        let parts: Vec<&str> = match path.strip_prefix("sweep.") {
            Some(swept) => vec!["sweep", swept],
            None => {
                if let Err((section, part)) = keys::find(path) {
                    self.unknown_path(path_at, path, section, &part);
                    return;
                }
                self.pin(path, &node);
                path.split('.').collect()
            }
        };
        if !keys::list_is_there(&self.root, path) || !self.root.set(&parts, &node) {
            self.pending.push(Diagnostic::new(
                path_at,
                path,
                format!("`{path}` leads nowhere in this scenario"),
            ));
        }
    }

    fn unknown_path(&mut self, at: At, path: &str, section: &keys::Section, part: &str) {
        let d = unknown_path(at, path, section, part);
        self.pending.push(d);
    }

    /// Leaves `node` as the only value of a swept key, written as one quoted key or as nested tables, and as the value
    /// of every variant that sets the key.
    fn pin(&mut self, path: &str, node: &Node) {
        if let Some(entry) = self.root.entries.iter_mut().find(|e| e.key == "variants")
            && let Value::Array(items) = &mut entry.node.value
        {
            for item in items {
                if let Value::Table(variant) = &mut item.value
                    && let Some(set) = variant.entries.iter_mut().find(|e| e.key == "set")
                    && let Value::Table(set) = &mut set.node.value
                {
                    pin(set, path, node.clone());
                }
            }
        }
        if let Some(entry) = self.root.entries.iter_mut().find(|e| e.key == "sweep")
            && let Value::Table(sweep) = &mut entry.node.value
        {
            pin(sweep, path, Node { at: node.at, value: Value::Array(vec![node.clone()]) });
        }
    }

    /// The file that `cluster.import` names.
    pub fn import(&self) -> Option<&str> {
        text(self.node("cluster", "import")?)
    }

    /// The file that `proxy.config` names.
    pub fn proxy_config(&self) -> Option<&str> {
        text(self.node("proxy", "config")?)
    }

    fn node(&self, section: &str, key: &str) -> Option<&Node> {
        match &self.root.get(section)?.node.value {
            Value::Table(table) => Some(&table.get(key)?.node),
            _ => None,
        }
    }

    /// Notes that the import could not be read, for example since the file is missing.
    pub fn import_failed(&mut self, reason: &str) {
        let Some(node) = self.node("cluster", "import") else { panic!("no import, yet it failed: {reason}") };
        let d = Diagnostic::new(node.at, "cluster.import", format!("cannot import the cluster: {reason}"));
        self.pending.push(d.help(format!("allowed: {KUBECTL}")));
    }

    /// Notes that the file of [`Scenario::proxy_config`] could not be read.
    pub fn proxy_config_failed(&mut self, reason: &str) {
        let Some(node) = self.node("proxy", "config") else {
            panic!("no proxy.config, yet it failed: {reason}")
        };
        let d = Diagnostic::new(node.at, "proxy.config", format!("cannot read the configuration: {reason}"));
        self.pending.push(d.help("allowed: a path relative to the scenario"));
    }

    /// Takes the text of the file that [`Scenario::proxy_config`] names; what is wrong in it is told with the plan.
    pub fn proxy_config_text(&mut self, file: &str, text: &str) {
        self.proxy_config = Some((file.to_owned(), text.to_owned()));
    }

    /// Takes the text of the file that [`Scenario::import`] names; what is wrong in it is told with the plan.
    pub fn import_text(&mut self, file: &str, text: &str) {
        let errors = match import(text) {
            Ok(objects) => {
                self.objects = Some(Arc::new(objects));
                return;
            }
            Err(errors) => errors,
        };
        import_errors(&mut self.pending, file, text, &errors, IMPORT_ERRORS_TOLD);
    }
}

/// Adds what is wrong with an import, each error with its place in `file`, its object and the path inside it; of more
/// than `most` only how many they are.
pub fn import_errors(out: &mut Diagnostics, file: &str, text: &str, errors: &[ImportError], most: usize) {
    let source = out.sources.add(file, text);
    for error in errors.iter().take(most) {
        let at = At { source, start: error.offset, end: error.offset + 1 };
        let object = if error.object.is_empty() { String::new() } else { format!("{}: ", error.object) };
        let d = Diagnostic::new(at, &error.path, format!("{object}{}", with_subject(error)));
        out.push(if error.object.is_empty() { d.help(format!("allowed: {KUBECTL}")) } else { d });
    }
    if let Some(untold) = errors.len().checked_sub(most).filter(|n| *n > 0) {
        let at = At { source, start: text.len(), end: text.len() };
        out.push(Diagnostic::new(at, "", format!("and {untold} more in this file")));
    }
}

/// The message, with what it is about where it does not say so itself.
fn with_subject(error: &ImportError) -> String {
    let bare = ["is missing", "is empty"].iter().any(|start| error.message.starts_with(start));
    if bare && !error.path.is_empty() {
        format!("{} {}", error.path, error.message)
    } else {
        error.message.clone()
    }
}

/// Name of the import beside a resolved scenario, so that the two can be run together from anywhere.
pub const IMPORT_FILE: &str = "import.json";

/// Name of kube-proxy's configuration beside a resolved scenario.
pub const PROXY_CONFIG_FILE: &str = "kube-proxy.yaml";

/// What an import must be.
pub(crate) const KUBECTL: &str = "the output of `kubectl get services,endpointslices,nodes,pods -A -o json`";

/// Errors of an import that are told one by one.
const IMPORT_ERRORS_TOLD: usize = 20;

/// The place of a line and a column, both from 1, the column in characters.
pub fn place(source: usize, text: &str, line: usize, column: usize) -> At {
    let line_start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = &text[line_start..];
    let start = line_start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(i, _)| i);
    At { source, start, end: start + 1 }
}

/// The diagnostic of a dotted path that the key table does not have.
pub(crate) fn unknown_path(at: At, path: &str, section: &keys::Section, part: &str) -> Diagnostic {
    let names: Vec<&str> = section.keys.iter().map(|k| k.name).collect();
    let mut d = Diagnostic::new(at, path, format!("unknown key `{part}` in {}", section.title));
    if let Some(near) = did_you_mean(part, names.iter().copied()) {
        d = d.label(format!("did you mean `{near}`?"));
    }
    d.help(format!("allowed: {}", names.join(", ")))
}

fn pin(table: &mut Table, path: &str, node: Node) {
    if let Some(entry) = table.entries.iter_mut().find(|e| e.key == path) {
        entry.node = node;
    } else if let Some((first, rest)) = path.split_once('.')
        && let Some(entry) = table.entries.iter_mut().find(|e| e.key == first)
        && let Value::Table(inner) = &mut entry.node.value
    {
        pin(inner, rest, node);
    }
}

/// The text of a value that is one.
fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// File name without folders and extension.
fn stem(file: &str) -> String {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    name.strip_suffix(".toml").filter(|stem| !stem.is_empty()).unwrap_or(name).to_owned()
}

/// The scenario with every key written out, defaults included: what is stored beside the results.
pub(crate) fn resolved(root: &Table) -> String {
    let mut out = String::from("# The scenario as it ran, every default written out.\n");
    let has_config = match root.get("proxy").map(|entry| &entry.node.value) {
        Some(Value::Table(proxy)) => proxy.get("config").is_some(),
        _ => false,
    };
    write_section(&keys::SCENARIO, root, "", has_config, &mut out);
    out
}

fn write_section(section: &keys::Section, table: &Table, path: &str, has_config: bool, out: &mut String) {
    use keys::Kind;
    let nested = |kind: &Kind| matches!(kind, Kind::Table(_) | Kind::Tables(_) | Kind::Sweep);
    // What a configuration file says is not written over it.
    let from_file = |name: &str| {
        has_config && keys::IN_CONFIG.iter().any(|(section, key)| *section == path && *key == name)
    };
    for key in section.keys.iter().filter(|k| !nested(&k.kind) || !path.is_empty()) {
        match (table.get(key.name), key.kind) {
            (None, _) if from_file(key.name) => {}
            (Some(entry), Kind::Table(inner)) if from_file(key.name) => {
                let Value::Table(written) = &entry.node.value else { continue };
                let only: Vec<String> = inner
                    .keys
                    .iter()
                    .filter_map(|k| {
                        Some(format!("{} = {}", k.name, written.get(k.name)?.node.value.to_toml()))
                    })
                    .collect();
                out.push_str(&format!("{} = {{ {} }}\n", key.name, only.join(", ")));
            }
            (entry, Kind::Table(inner)) => {
                let empty = Table::default();
                let inner_table = match entry.map(|e| &e.node.value) {
                    Some(Value::Table(t)) => t,
                    _ => &empty,
                };
                out.push_str(&format!("{} = {}\n", key.name, inline(inner, inner_table)));
            }
            (Some(entry), Kind::Action(inner)) => {
                let Value::Table(written) = &entry.node.value else { continue };
                out.push_str(&format!("{} = {}\n", key.name, inline(inner, written)));
            }
            (Some(entry), _) => out.push_str(&format!("{} = {}\n", key.name, entry.node.value.to_toml())),
            (None, _) => {
                if let Some(default) = key.default {
                    out.push_str(&format!("{} = {default}\n", key.name));
                }
            }
        }
    }
    if !path.is_empty() {
        return;
    }
    let empty = Table::default();
    for key in section.keys {
        let value = table.get(key.name).map(|e| &e.node.value);
        match (key.kind, value) {
            (Kind::Table(inner), value) => {
                let inner_table = if let Some(Value::Table(t)) = value { t } else { &empty };
                out.push_str(&format!("\n[{}]\n", key.name));
                write_section(inner, inner_table, key.name, has_config, out);
            }
            (Kind::Tables(inner), Some(Value::Array(items))) => {
                for item in items {
                    if let Value::Table(t) = &item.value {
                        out.push_str(&format!("\n[[{}]]\n", key.name));
                        write_section(inner, t, key.name, has_config, out);
                    }
                }
            }
            (Kind::Sweep, Some(Value::Table(t))) if !t.entries.is_empty() => {
                out.push_str("\n[sweep]\n");
                for e in &t.entries {
                    out.push_str(&format!("{} = {}\n", bare(&e.key), e.node.value.to_toml()));
                }
            }
            _ => {}
        }
    }
}

fn inline(section: &keys::Section, table: &Table) -> String {
    let mut items = Vec::new();
    for key in section.keys {
        let written = table.get(key.name).map(|e| e.node.value.to_toml());
        if let Some(value) = written.or_else(|| key.default.map(str::to_owned)) {
            items.push(format!("{} = {value}", key.name));
        }
    }
    format!("{{ {} }}", items.join(", "))
}
