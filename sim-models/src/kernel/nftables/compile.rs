//! A chain's rules laid out as the kernel evaluates them: one blob of rules and their expressions
//! (`net/netfilter/nf_tables_api.c:nf_tables_commit_chain_prepare`), with its anonymous sets.
//!
//! Of the blob only the cache line in which each part lies is kept: 8 bytes of head, per rule 8 bytes and its
//! expressions, 40 bytes of end marker. Blobs start on a line of their own (their slab classes do).

use super::Rule;
use super::expr::Expr;
use super::linearize::linearize;
use super::set::{Backend, derive_seed};
use sim_core::classify::Family;

/// Bytes before the first rule.
const BLOB_HEAD: u32 = 8;
/// Bytes of a rule before its expressions (`struct nft_rule_dp`).
const RULE_HEAD: u32 = 8;
/// Bytes of the end marker (`struct nft_rule_dp_last`).
const BLOB_END: u32 = 40;

/// An expression in its place.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The expression.
    pub expr: Expr,
    /// Line of the blob that holds its last byte.
    pub end_line: u32,
}

/// A rule in its place.
#[derive(Clone, Copy, Debug)]
pub struct RuleAt {
    /// Its first expression.
    pub first: u32,
    /// One past its last expression.
    pub end: u32,
    /// Line of the blob that holds its head.
    pub line: u32,
}

/// A compiled chain.
#[derive(Clone, Debug, Default)]
pub struct CompiledChain {
    /// Expressions of all rules.
    pub exprs: Box<[Placed]>,
    /// Rules.
    pub rules: Box<[RuleAt]>,
    /// Anonymous sets of its rules.
    pub anonymous: Box<[Backend]>,
    /// Line of the end marker.
    pub end_line: u32,
    /// Bytes of the blob.
    pub blob_bytes: u32,
    /// Bytes of the rules' own copies, by slab class (`struct nft_rule`, kept beside the blob).
    pub rule_bytes: u64,
}

impl CompiledChain {
    /// Compiles `rules`. `seed` and `chain` give the seeds of its anonymous sets.
    pub fn new(rules: &[Rule], family: Family, seed: u64, chain: u32) -> Self {
        let mut exprs = Vec::new();
        let mut placed = Vec::with_capacity(rules.len());
        let mut anonymous = Vec::new();
        let mut rule_bytes = 0;
        let mut at = BLOB_HEAD;
        for rule in rules {
            let linear = linearize(rule, family, anonymous.len());
            for set in &linear.anonymous {
                let what = (1 << 63) | u64::from(chain) << 24 | anonymous.len() as u64;
                anonymous.push(Backend::anonymous(set, family, derive_seed(seed, what)));
            }
            let first = index(exprs.len());
            let line = at / 64;
            at += RULE_HEAD;
            let start = at;
            for expr in linear.exprs {
                at += expr.size();
                exprs.push(Placed { expr, end_line: (at - 1) / 64 });
            }
            rule_bytes += super::memory::rule_bytes(at - start, rule.comment.as_deref());
            placed.push(RuleAt { first, end: index(exprs.len()), line });
        }
        CompiledChain {
            exprs: exprs.into(),
            rules: placed.into(),
            anonymous: anonymous.into(),
            end_line: at / 64,
            blob_bytes: at + BLOB_END,
            rule_bytes,
        }
    }
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("fewer than 2^32 expressions")
}
