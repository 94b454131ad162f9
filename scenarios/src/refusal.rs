//! Why a value is refused, and the checks of single values that refuse.

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::keys::{Family, Key, Kind, grouped};
use crate::known::Known;
use crate::quantity;
use crate::tree::{At, Node, Value};

/// Why a value is refused: one reason, or several for a list.
pub struct Refusals(pub(crate) Vec<Refusal>);

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Self {
        Refusals(vec![refusal])
    }
}

/// A reason why a value is refused, before its place is known.
pub struct Refusal {
    message: String,
    label: String,
    help: Vec<String>,
    at: Option<At>,
}

impl Refusal {
    /// With a message.
    pub fn new(message: impl Into<String>) -> Self {
        Refusal { message: message.into(), label: String::new(), help: Vec::new(), at: None }
    }
    /// A value of the wrong kind.
    pub fn kind(key: &Key, node: &Node) -> Self {
        Refusal::new(format!("`{}` must be {}", key.name, key.kind.expected()))
            .label(format!("this is {}", node.value.kind()))
    }
    /// With text beside the caret.
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.label = text.into();
        self
    }
    /// With a line of help.
    pub fn help(mut self, text: String) -> Self {
        self.help.push(text);
        self
    }
    /// At a place inside the value.
    pub fn at(mut self, at: At) -> Self {
        self.at = Some(at);
        self
    }
    /// The message, and its help in one line.
    pub fn into_parts(self) -> (String, String) {
        let mut help = self.help;
        if !self.label.is_empty() {
            help.insert(0, self.label);
        }
        (self.message, help.join(" "))
    }
    /// As a diagnostic about `key`, at its own place or else at `at`.
    pub(crate) fn place(self, at: At, key: &str) -> Diagnostic {
        let mut d = Diagnostic::new(self.at.unwrap_or(at), key, self.message).label(self.label);
        d.help = self.help;
        d
    }
}

/// Checks an integer against its key's limits.
pub fn within(key: &Key, name: &str, n: i128) -> Result<u64, Refusal> {
    let Kind::Integer { min, max, why } = key.kind else { panic!("{name} is not an integer") };
    match u64::try_from(n) {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ if n < 0 && min == 0 => Err(Refusal::new(format!("`{name}` is negative"))),
        _ if n < i128::from(min) => Err(Refusal::new(format!("`{name}` must be at least {min}"))),
        _ => {
            Err(Refusal::new(format!("`{name}` must be at most {}", grouped(max)))
                .help(format!("reason: {why}")))
        }
    }
}

/// The text of a quantity; a bare number lacks its unit.
pub(crate) fn unit_text<'n>(key: &Key, node: &'n Node) -> Result<&'n str, Refusal> {
    match &node.value {
        Value::Text(text) if quantity::is_negative(text) => {
            Err(Refusal::new(format!("`{}` is negative", key.name))
                .help(format!("allowed: {}", key.kind.expected())))
        }
        Value::Text(text) => Ok(text),
        Value::Integer(n) => {
            let fix = match key.kind {
                Kind::Rate { per_node: true, .. } => format!("did you mean \"{n}/s per node\"?"),
                Kind::Rate { per_node: false, .. } => format!("did you mean \"{n}/s\"?"),
                _ => format!("did you mean \"{n}s\"?"),
            };
            Err(Refusal::new(format!("the unit of `{}` is missing", key.name))
                .label(fix)
                .help(format!("allowed: {}", key.kind.expected())))
        }
        _ => Err(Refusal::kind(key, node)),
    }
}

/// A span as a limit is best read.
pub(crate) fn plain_span(ns: u64) -> String {
    match ns {
        0 => "0s".into(),
        ns if ns % 3_600_000_000_000 == 0 => format!("{}h", ns / 3_600_000_000_000),
        ns if ns % 1_000_000_000 == 0 => format!("{}s", ns / 1_000_000_000),
        ns => format!("{}ms", ns / 1_000_000),
    }
}

/// `1.36` and `v1.36.2` are 36.
pub fn kubernetes_minor(text: &str) -> Option<u32> {
    let mut parts = text.trim_start_matches('v').split('.');
    let major = parts.next()?;
    let minor = parts.next()?.parse().ok()?;
    let patch_ok = parts.next().is_none_or(|p| p.parse::<u32>().is_ok());
    (major == "1" && patch_ok && parts.next().is_none()).then_some(minor)
}

/// Checks a word against fixed ones.
pub(crate) fn one_of<'a>(
    text: &str,
    name: &str,
    words: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Refusal> {
    if words.clone().any(|w| w == text) {
        return Ok(());
    }
    Err(unknown_name(text, &format!("`{text}` is not {} {name}", article(name)), words))
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// Checks a name against its family.
pub fn known_name(text: &str, family: Family, known: &Known) -> Result<(), Refusal> {
    let names = known.names(family);
    if names.iter().any(|n| n.name == text) {
        return Ok(());
    }
    let all = || names.iter().map(|n| n.name.as_str());
    if family == Family::Mode && known.rules_only.iter().any(|n| n.name == text) {
        let refusal = Refusal::new(format!("{text} mode has rules but no simulation yet"));
        let refusal = refusal.help(format!("`windtunnel rules --mode {text}` prints its rules"));
        return Err(refusal.help(format!("allowed: {}", all().collect::<Vec<_>>().join(", "))));
    }
    let what = match family {
        Family::Mode => "proxy mode",
        Family::Scheduler => "IPVS scheduler",
        Family::Profile => "cost profile",
        Family::Metric => "metric",
        Family::Figure => "figure",
    };
    Err(unknown_name(text, &format!("there is no {what} `{text}`"), all()))
}

fn unknown_name<'a>(text: &str, message: &str, words: impl Iterator<Item = &'a str> + Clone) -> Refusal {
    let mut refusal = Refusal::new(message);
    if let Some(near) = did_you_mean(text, words.clone()) {
        refusal = refusal.label(format!("did you mean `{near}`?"));
    }
    refusal.help(format!("allowed: {}", words.collect::<Vec<_>>().join(", ")))
}
