//! What is wrong with a rule that cannot be compiled, and what is told of one that decides nothing.

use super::TableName;

/// A rule that the kernel would refuse, or that is not modelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table {}, chain {chain}, rule {rule}: {problem}", table.name())]
pub struct CompileError {
    /// Its table.
    pub table: TableName,
    /// Its chain.
    pub chain: String,
    /// Its place in the chain, from 1.
    pub rule: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It names a set that was not created.
    #[error("set {0} does not exist")]
    NoSuchSet(String),
    /// It leads to a chain that is not there.
    #[error("a jump to chain number {to} of {chains}")]
    NoSuchChain {
        /// Where to.
        to: u32,
        /// How many there are.
        chains: usize,
    },
    /// It leads to a built-in chain.
    #[error("{0} is a built-in chain, which no rule leads to")]
    BuiltIn(String),
    /// It closes a loop (`mark_source_chains`, ELOOP).
    #[error("a jump to {0}, which this chain was reached from: the kernel refuses loops")]
    Loop(String),
    /// An extension's own check fails (EINVAL).
    #[error("the kernel refuses {0}")]
    Refused(String),
    /// It uses an extension that is only kept as text.
    #[error("what {extension} does is not modelled: {text}")]
    NotModelled {
        /// Name of the match or target.
        extension: String,
        /// How it stands in the rule.
        text: String,
    },
}

/// A rule that decides nothing because an extension of it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Its table.
    pub table: TableName,
    /// Its chain.
    pub chain: String,
    /// Its place in the chain, from 1.
    pub rule: usize,
    /// Name of the match or target.
    pub extension: String,
    /// How it stands in the rule.
    pub text: String,
    /// A target, which the packet goes on after; otherwise a match, which does not match.
    pub is_target: bool,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Warning { table, chain, rule, extension, text, .. } = self;
        let taken = if self.is_target { "the packet goes on" } else { "taken not to match" };
        write!(f, "table {}, chain {chain}, rule {rule}: ", table.name())?;
        write!(f, "what {extension} does is not modelled, {taken}: {text}")
    }
}
