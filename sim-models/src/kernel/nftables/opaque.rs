//! What a dump holds that kube-proxy does not write: kept as it stood, shown in differences, never evaluated.
//!
//! A table with such a part does not pass [`Table::validate`](super::Table::validate). In nft's text an unknown
//! statement takes the rest of its rule with it, since only its grammar would say where it ends.

use super::print::RuleText;
use super::{Statement, Table};
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// A piece of a dump, in the form in which it was read. One form is not translated into the other: printed in the
/// other form it is nothing that nft would load.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Opaque {
    /// nft's text.
    Text(Arc<str>),
    /// JSON, on one line.
    Json(Arc<str>),
}

/// An object of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Kind and name: `counter hits`, `set blocked`, or the whole of a line without a body.
    pub what: Arc<str>,
    /// All of it. Text keeps its lines, the first one without its indentation.
    pub body: Opaque,
    /// Number of known sets before it.
    pub after_sets: usize,
}

impl Table {
    /// The table without what is not understood, for a run that allows it, and what was left out, a line each. A rule
    /// ends before its first unknown statement, so that it decides nothing; a chain that is attached in an unknown way
    /// is attached nowhere.
    pub(super) fn without_opaque(&self) -> (Table, Vec<String>) {
        let mut table = self.clone();
        let mut warnings: Vec<String> =
            table.unknown.drain(..).map(|unknown| format!("{} is left out", unknown.what)).collect();
        for (chain, written) in table.chains.iter_mut().zip(&self.chains) {
            if let Some(base) = chain.unknown_base.take() {
                warnings.push(format!("chain {} is attached nowhere: {base}", chain.name));
            }
            for (rule, written) in chain.rules.iter_mut().zip(&written.rules) {
                let is_opaque = |s: &Statement| matches!(s, Statement::Opaque(_));
                if let Some(at) = rule.statements.iter().position(is_opaque) {
                    rule.statements.truncate(at);
                    let text = RuleText(self, written);
                    warnings.push(format!("chain {}: this rule decides nothing: {text}", chain.name));
                }
            }
        }
        (table, warnings)
    }
}

impl Opaque {
    /// JSON as nft prints it or as another tool has spread it over lines.
    pub fn json(text: &str) -> Self {
        // Inside a JSON string a line break is written as an escape, so these are all between tokens.
        let line = if text.contains(['\n', '\r', '\t']) {
            text.replace(['\n', '\r', '\t'], " ")
        } else {
            text.to_owned()
        };
        Opaque::Json(line.into())
    }
}

impl Display for Opaque {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Opaque::Text(text) | Opaque::Json(text) => f.write_str(text),
        }
    }
}
