//! `[[variants]]`: named sets of values that run beside each other, such as two versions of kube-proxy. Unlike a sweep,
//! which puts numbers of one key on an axis, a variant sets any keys at once; its name tells its lines and rows apart.

use crate::diagnostic::Diagnostic;
use crate::keys::{self, Kind, SCENARIO};
use crate::reader::{Context, Reader};
use crate::scenario::unknown_path;
use crate::sweep::Axis;
use crate::tree::{At, Node, Table, Value};

/// What a variant cannot set, and why.
const FIXED: &[(&str, &str)] = &[
    ("title", "it is the title of the report of all variants"),
    ("seed", "variants see the same arrivals, so that their differences are paired"),
    ("cluster.import", "a run has one import"),
    ("proxy.config", "a run has one configuration file"),
    ("kernel.profile", "a run has one profile: its record carries where each price comes from"),
];

/// One variant.
#[derive(Clone, Debug, Default)]
pub struct Variant {
    /// Its name; empty for a scenario without variants.
    pub name: String,
    set: Vec<Setting>,
}

#[derive(Clone, Debug)]
struct Setting {
    path: String,
    /// Place of the key.
    at: At,
    key: String,
    node: Node,
}

/// Reads the list; a scenario without one has a single variant without a name.
pub fn variants(cx: &mut Context<'_>, root: &Table, axes: &[Axis]) -> Vec<Variant> {
    let start = At { source: 0, start: 0, end: 0 };
    let top = Reader::new(cx, &SCENARIO, Some(root), "", start);
    let mut variants: Vec<Variant> = Vec::new();
    for r in top.tables(cx, "variants") {
        let name = r.text(cx, "name");
        if name.ok && name.value.trim().is_empty() {
            cx.out.push(name.wrong("a variant needs a name"));
        } else if name.ok && variants.iter().any(|there| there.name == name.value) {
            cx.out.push(name.wrong(format!("there are two variants `{}`", name.value)));
        }
        let mut set = Vec::new();
        if let Some(table) = r.set(cx, "set") {
            collect(cx, table, "", &r.key_path("set"), &mut set);
        }
        for setting in &set {
            if let Some(axis) = axes.iter().find(|axis| axis.key == setting.path) {
                let message = format!("`{}` is swept and set by a variant", setting.path);
                let d = Diagnostic::new(setting.at, &setting.key, message);
                cx.out.push(d.and(axis.at, &format!("sweep.{}", axis.key)));
            }
        }
        variants.push(Variant { name: name.value, set });
    }
    if variants.is_empty() { vec![Variant::default()] } else { variants }
}

/// Quoted keys hold the whole path, nested tables a part of it.
fn collect(cx: &mut Context<'_>, table: &Table, prefix: &str, key: &str, out: &mut Vec<Setting>) {
    for entry in &table.entries {
        let path = if prefix.is_empty() { entry.key.clone() } else { format!("{prefix}.{}", entry.key) };
        let told = format!("{key}.{path}");
        let mut refuse = |message: String, help: &str| {
            cx.out.push(Diagnostic::new(entry.key_at, &told, message).help(help));
        };
        if let Some((_, why)) = FIXED.iter().find(|(fixed, _)| *fixed == path) {
            refuse(format!("a variant cannot set `{path}`"), &format!("reason: {why}"));
            continue;
        }
        match (keys::find(&path), &entry.node.value) {
            (Err((section, part)), _) => cx.out.push(unknown_path(entry.key_at, &told, section, &part)),
            (Ok(found), Value::Table(inner)) if matches!(found.kind, Kind::Table(_)) => {
                collect(cx, inner, &path, key, out);
            }
            (Ok(found), _)
                if matches!(found.kind, Kind::Table(_) | Kind::Tables(_) | Kind::Action(_) | Kind::Sweep)
                    || path.split('.').next().is_some_and(|first| RESULTS.contains(&first)) =>
            {
                refuse(
                    format!("a variant cannot set `{path}`"),
                    "allowed: keys with a value, such as \"proxy.kubernetes\" or \"events.0.switch_mode.wait\"",
                );
            }
            _ => {
                let (at, node) = (entry.key_at, entry.node.clone());
                out.push(Setting { path, at, key: told, node });
            }
        }
    }
}

/// Tables that are about the result of all variants.
const RESULTS: [&str; 5] = ["gates", "charts", "published", "variants", "sweep"];

impl Variant {
    /// Puts its values into a scenario.
    pub fn apply(&self, cx: &mut Context<'_>, tree: &mut Table) {
        for setting in &self.set {
            let path: Vec<&str> = setting.path.split('.').collect();
            if !keys::list_is_there(tree, &setting.path) || !tree.set(&path, &setting.node) {
                let message = format!("`{}` leads nowhere in this scenario", setting.path);
                cx.out.push(Diagnostic::new(setting.at, &setting.key, message));
            }
        }
    }
}
