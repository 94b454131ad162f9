//! Finds the KubeProxyConfiguration in a text: the document itself, one among others, or inside a ConfigMap.

use super::yaml::{self, Yaml, shown};
use crate::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
use crate::tree::At;

/// The kind that is looked for.
const KIND: &str = "KubeProxyConfiguration";
/// Its only version.
const VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// What a text must hold.
const ALLOWED: &str = "allowed: kind: KubeProxyConfiguration of apiVersion kubeproxy.config.k8s.io/v1alpha1, or the ConfigMap \
     kube-proxy that holds one";

/// The configuration of the text of `file`, its kind and version checked; `None` after something wrong was told.
pub(super) fn find(out: &mut Diagnostics, file: &str, text: &str) -> Option<Yaml> {
    search(out, file, text, true)
}

fn search(out: &mut Diagnostics, file: &str, text: &str, may_be_a_map: bool) -> Option<Yaml> {
    // Some editors begin a file with a byte order mark; columns are counted without it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = out.sources.add(file, text);
    let documents = yaml::documents(out, source, text)?;
    let start = At { source, start: 0, end: 1 };
    let mut found: Option<Yaml> = None;
    let mut other = None;
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let yaml::Item::Map(_) = &document.item else {
            let d = Diagnostic::new(document.at, "", "a configuration must be a map");
            out.push(d.label(format!("this is {}", document.kind())).help(ALLOWED));
            return None;
        };
        match document.text("kind") {
            Some(KIND) if found.is_some() => {
                out.push(Diagnostic::new(start_of(&document), "kind", format!("a second {KIND}")));
                return None;
            }
            Some(KIND) => found = Some(document),
            Some("ConfigMap") if may_be_a_map => return inside(out, file, &document),
            Some(kind) => other = other.or_else(|| Some((document.get("kind")?.at, kind.to_owned()))),
            None => other = other.or(Some((start_of(&document), String::new()))),
        }
    }
    let Some(root) = found else {
        let (at, kind) = other.unwrap_or((start, String::new()));
        let mut d = Diagnostic::new(at, "kind", format!("there is no {KIND} here"));
        if !kind.is_empty() {
            d = d.label(match did_you_mean(&kind, [KIND]) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("this is a {}", shown(&kind)),
            });
        }
        out.push(d.help(ALLOWED));
        return None;
    };
    match root.text("apiVersion") {
        Some(VERSION) => Some(root),
        Some(version) => {
            let at = root.get("apiVersion").map_or(root.at, |value| value.at);
            let message = format!("there is no {KIND} of apiVersion `{}`", shown(version));
            out.push(Diagnostic::new(at, "apiVersion", message).help(format!("allowed: {VERSION}")));
            None
        }
        None => {
            let message = "the configuration needs the key `apiVersion`";
            let d = Diagnostic::new(start_of(&root), "apiVersion", message);
            out.push(d.help(format!("allowed: {VERSION}")));
            None
        }
    }
}

/// A place that shows where a document begins without underlining all of it.
fn start_of(document: &Yaml) -> At {
    At { end: document.at.start + 1, ..document.at }
}

/// The configuration that a ConfigMap holds, whatever its key.
fn inside(out: &mut Diagnostics, file: &str, map: &Yaml) -> Option<Yaml> {
    let Some(data) = map.get("data") else {
        let d = Diagnostic::new(start_of(map), "data", "a ConfigMap without data");
        out.push(d.help(ALLOWED));
        return None;
    };
    let yaml::Item::Map(pairs) = &data.item else {
        let d = Diagnostic::new(start_of(data), "data", "`data` must be a map");
        out.push(d.label(format!("this is {}", data.kind())));
        return None;
    };
    for pair in pairs {
        if let Some(text) = data.text(&pair.key).filter(|text| text.contains(KIND)) {
            return search(out, &format!("{file}#data.{}", shown(&pair.key)), text, false);
        }
    }
    let names: Vec<String> = pairs.iter().take(12).map(|pair| shown(&pair.key)).collect();
    let d = Diagnostic::new(start_of(data), "data", format!("no {KIND} in this ConfigMap"));
    out.push(d.help(format!("it has: {}", names.join(", "))).help(ALLOWED));
    None
}
