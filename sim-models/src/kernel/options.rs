//! How rules are compiled, and what compiling them has to say.

use super::xtables;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

/// How to compile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// Compile rules with parts that are kept as text. Such a rule decides nothing: a match of which nothing is known
    /// does not match, and a target of which nothing is known lets the packet go on to the next rule; in nftables a rule
    /// ends before its first unknown statement. So the verdict is that of the rules that are known, and each [`Warning`]
    /// names one that may change it. (To let an unknown match match would make its rule apply to all packets, which what
    /// people write matches for is never meant to do.) Sizes of such tables are too small.
    pub allow_opaque: bool,
}

/// A rule that decides nothing because a part of it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A rule of iptables, whatever runs it.
    Xtables(xtables::Warning),
    /// Something in a table of nftables.
    Nftables {
        /// Its name.
        table: Arc<str>,
        /// What, and what is made of it.
        what: String,
    },
}

impl Display for Warning {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Xtables(warning) => warning.fmt(f),
            Warning::Nftables { table, what } => write!(f, "table {table}: {what}"),
        }
    }
}
