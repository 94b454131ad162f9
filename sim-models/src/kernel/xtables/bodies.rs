//! What rules do apart from their addresses and targets: kept once for all rules that do the same.
//!
//! The rules of thousands of Services differ in addresses and in where they lead, hardly in anything else. A packet that
//! goes through a few of them at random then finds what to do in the nearest cache, and a rule takes few bytes.

use super::compile::{CompileError, CompiledRule};
use super::{Match, Rule, Test, layout};
use ipnet::IpNet;
use sim_core::classify::Family;
use sim_core::classify::indexed::postings::Postings;
use std::hash::{Hash, Hasher};

/// Distinct bodies.
#[derive(Clone, Debug)]
pub(super) struct Bodies {
    family: Family,
    rules: Vec<CompiledRule>,
    /// The first rule with each body.
    patterns: Vec<Rule>,
    by_hash: Postings,
}

impl Bodies {
    pub(super) fn new(family: Family) -> Self {
        Bodies { family, rules: Vec::new(), patterns: Vec::new(), by_hash: Postings::default() }
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> &CompiledRule {
        &self.rules[number as usize]
    }

    /// The number of `rule`'s body; `compile` makes it if it is new.
    pub(super) fn number(
        &mut self,
        rule: &Rule,
        compile: impl FnOnce() -> Result<CompiledRule, CompileError>,
    ) -> Result<u32, CompileError> {
        let hash = hash_of(rule, self.family);
        if !rule.matches.iter().all(is_shared) {
            return self.add(rule, compile()?);
        }
        let known = self.by_hash.of(hash).find(|&n| same(&self.patterns[n as usize], rule, self.family));
        if let Some(known) = known {
            return Ok(known);
        }
        let number = self.add(rule, compile()?)?;
        // If the list is full the body is kept once more with the next rule: no harm.
        self.by_hash.insert(hash, number);
        Ok(number)
    }

    fn add(&mut self, rule: &Rule, body: CompiledRule) -> Result<u32, CompileError> {
        self.rules.push(body);
        self.patterns.push(rule.clone());
        Ok(self.rules.len() as u32 - 1)
    }

    /// A rule with that body.
    pub(super) fn pattern(&self, number: u32) -> &Rule {
        &self.patterns[number as usize]
    }

    /// Bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.rules.capacity() * size_of::<CompiledRule>()
            + self.patterns.capacity() * size_of::<Rule>()
            + self.by_hash.memory_bytes()
    }
}

/// Whether rules with it may share a body: not if it has something of its own beside each rule, or is worth a warning.
fn is_shared(m: &Match) -> bool {
    !matches!(m, Match::Extra(_) | Match::Opaque(_))
}

fn inverted(test: &Option<Test<IpNet>>) -> Option<IpNet> {
    test.filter(|t| t.invert).map(|t| t.value)
}

/// Whether two rules differ at most in addresses that value and mask decide, in comments, and in targets of one size.
fn same(a: &Rule, b: &Rule, family: Family) -> bool {
    // Every field by name: a new one must be thought of here and in `hash_of`.
    let Rule { src, dst, in_iface, out_iface, proto, fragment, matches, target } = a;
    let text_aside = |a: &Match, b: &Match| match (a, b) {
        (Match::Comment(_), Match::Comment(_)) => true,
        _ => a == b,
    };
    inverted(src) == inverted(&b.src)
        && inverted(dst) == inverted(&b.dst)
        && *in_iface == b.in_iface
        && *out_iface == b.out_iface
        && *proto == b.proto
        && *fragment == b.fragment
        && matches.len() == b.matches.len()
        && matches.iter().zip(&b.matches).all(|(a, b)| text_aside(a, b))
        && layout::target_bytes(target.as_ref(), family) == layout::target_bytes(b.target.as_ref(), family)
}

fn hash_of(rule: &Rule, family: Family) -> u32 {
    let mut hasher = Multiply(0);
    inverted(&rule.src).hash(&mut hasher);
    inverted(&rule.dst).hash(&mut hasher);
    (&rule.in_iface, &rule.out_iface, rule.proto).hash(&mut hasher);
    for m in &rule.matches {
        match m {
            Match::Comment(_) => hasher.write_u8(1),
            m => m.hash(&mut hasher),
        }
    }
    hasher.write_u64(layout::target_bytes(rule.target.as_ref(), family));
    (hasher.finish() >> 32) as u32
}

/// A quick hash, the same on every machine of one word size and in every run.
#[derive(Clone, Copy)]
pub(super) struct Multiply(pub(super) u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        (self.0 ^ self.0 >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u64(n.into());
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0xf135_7aea_2e62_a9c5);
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
}
