//! A chain's rules laid out as the kernel evaluates them: one blob of rules and their expressions
//! (`net/netfilter/nf_tables_api.c:nf_tables_commit_chain_prepare`), with its anonymous sets.
//!
//! Of the blob only the cache line in which each part lies is kept: 8 bytes of head, per rule 8 bytes and its
//! expressions, 40 bytes of end marker. Blobs start on a line of their own (their slab classes do).

use super::Rule;
use super::expr::Expr;
use super::linearize::{LinearRule, linearize};
use super::set::dynamic::Slot;
use super::set::{Backend, derive_seed};
use super::tally::Counted;
use sim_core::classify::Family;
use std::sync::Arc;

/// Bytes before the first rule.
const BLOB_HEAD: u32 = 8;
/// Bytes of a rule before its expressions (`struct nft_rule_dp`).
const RULE_HEAD: u32 = 8;
/// Bytes of the end marker (`struct nft_rule_dp_last`).
const BLOB_END: u32 = 40;

/// An expression in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The expression.
    pub expr: Expr,
    /// Line of the blob that holds its last byte.
    pub end_line: u32,
    /// Work of the rule up to here.
    pub counted: Counted,
}

/// A rule in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleAt {
    /// Its first expression.
    pub first: u32,
    /// One past its last expression.
    pub end: u32,
    /// Line of the blob that holds its head.
    pub line: u32,
}

/// A chain's rules. Chains with equal rules have the same one: those of Services differ in their anonymous sets only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// Expressions of all rules.
    pub exprs: Box<[Placed]>,
    /// Rules.
    pub rules: Box<[RuleAt]>,
    /// Line of the end marker.
    pub end_line: u32,
}

/// Rules that chains share.
#[derive(Clone, Debug, Default)]
pub(super) struct Codes(Vec<Arc<Code>>);

impl Codes {
    /// So many are kept: kube-proxy's chains with rules of their own are many, those that differ by the number of
    /// endpoints few.
    const KEPT: usize = 64;

    fn share(&mut self, code: Code) -> Arc<Code> {
        if let Some(at) = self.0.iter().position(|known| **known == code) {
            // What is asked for often is found soon.
            self.0.swap(at, at / 2);
            return self.0[at / 2].clone();
        }
        let code = Arc::new(code);
        if self.0.len() < Codes::KEPT {
            self.0.push(code.clone());
        }
        code
    }
}

/// A compiled chain.
#[derive(Clone, Debug, Default)]
pub struct CompiledChain {
    /// Its rules.
    pub code: Arc<Code>,
    /// Anonymous sets of its rules.
    pub anonymous: Box<[Backend]>,
    /// Bytes of the blob.
    pub blob_bytes: u32,
    /// Bytes of the rules' own copies, by slab class (`struct nft_rule`, kept beside the blob).
    pub rule_bytes: u64,
    /// Whether a packet that comes to the end of this base chain is dropped (`policy drop`).
    pub drops: bool,
}

impl CompiledChain {
    /// Compiles `rules`. `seed` and `chain` give the seeds of its anonymous sets.
    pub(super) fn new(rules: &[Rule], family: Family, seed: u64, chain: u32, codes: &mut Codes) -> Self {
        let mut layout = Layout::new(family, seed, chain, rules.len());
        for rule in rules {
            let linear = linearize(rule, family, layout.out.anonymous.len());
            layout.rule(linear, rule.comment.as_deref());
        }
        layout.finish(codes)
    }
}

/// A chain being laid out, rule by rule.
pub(super) struct Layout {
    family: Family,
    seed: u64,
    chain: u32,
    at: u32,
    out: Parts,
}

#[derive(Default)]
struct Parts {
    exprs: Vec<Placed>,
    rules: Vec<RuleAt>,
    anonymous: Vec<Backend>,
    rule_bytes: u64,
}

impl Layout {
    /// An empty chain with place for so many rules.
    pub(super) fn new(family: Family, seed: u64, chain: u32, rules: usize) -> Self {
        let out = Parts { rules: Vec::with_capacity(rules), ..Parts::default() };
        Layout { family, seed, chain, at: BLOB_HEAD, out }
    }

    /// Appends a rule; the positions of its anonymous sets follow those of the rules before.
    pub(super) fn rule(&mut self, linear: LinearRule, comment: Option<&str>) {
        let out = &mut self.out;
        for set in &linear.anonymous {
            let what = (1 << 63) | u64::from(self.chain) << 24 | out.anonymous.len() as u64;
            out.anonymous.push(Backend::anonymous(set, self.family, derive_seed(self.seed, what)));
        }
        let first = index(out.exprs.len());
        let line = self.at / 64;
        self.at += RULE_HEAD;
        let start = self.at;
        let mut counted = Counted::default();
        for mut expr in linear.exprs {
            counted = counted.and(&expr);
            let slot = Slot(self.chain, index(out.exprs.len()));
            match &mut expr {
                Expr::Limit(limit) => limit.slot = slot,
                Expr::Numgen(numgen) if numgen.inc => numgen.slot = slot,
                _ => {}
            }
            self.at += expr.size();
            out.exprs.push(Placed { expr, end_line: (self.at - 1) / 64, counted });
        }
        out.rule_bytes += super::memory::rule_bytes(self.at - start, comment);
        out.rules.push(RuleAt { first, end: index(out.exprs.len()), line });
    }

    /// The whole chain.
    pub(super) fn finish(self, codes: &mut Codes) -> CompiledChain {
        let (exprs, rules) = (self.out.exprs.into(), self.out.rules.into());
        CompiledChain {
            code: codes.share(Code { exprs, rules, end_line: self.at / 64 }),
            anonymous: self.out.anonymous.into(),
            blob_bytes: self.at + BLOB_END,
            rule_bytes: self.out.rule_bytes,
            drops: false,
        }
    }
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("fewer than 2^32 expressions")
}
