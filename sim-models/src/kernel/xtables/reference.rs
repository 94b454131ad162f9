//! The walk with nothing clever in it: each rule tried by itself, its cache lines found from its place in the blob.
//!
//! It is what the index and the scan over columns are held against, rule for rule and line for line, and what benches
//! measure them beside. Matches and targets are those of [`super::walk`]; how the next rule that matches is found, and
//! what the others cost, is not.

use super::compile::{At, Compiled, CompiledRule, Shared, compile_rule};
use super::recent::ListSpec;
use super::walk::{Chains, rule_matches};
use super::{CompileError, Policy, Rule, Table, Target, Test, layout};
use crate::kernel::hook::{Hook, HookVerdict, PacketCx};
use crate::kernel::ipset::IpSets;
use crate::kernel::trace::{Observer, Step};
use ipnet::IpNet;
use sim_core::classify::indexed::{PHASES, Place};
use sim_core::classify::{Family, Unit};
use std::net::IpAddr;
use std::sync::Arc;

/// Tables as [`Compiled`] has them, as plain lists of rules.
pub struct Reference {
    lists: Arc<[ListSpec]>,
    tables: Vec<PlainTable>,
}

struct PlainTable {
    family: Family,
    chains: Vec<PlainChain>,
}

struct PlainChain {
    base: Option<(Hook, Policy)>,
    rules: Vec<PlainRule>,
}

struct PlainRule {
    rule: Rule,
    /// What of it value and mask do not decide.
    body: CompiledRule,
    /// Where it begins in the blob.
    offset: u64,
}

impl Reference {
    /// The same as [`Compiled::new`].
    pub fn new(tables: &[Table], sets: &IpSets) -> Result<Self, CompileError> {
        // What compiles there compiles here, and is refused alike.
        let lists = Compiled::new(tables, sets)?.lists;
        let mut shared = Shared::default();
        shared.number_lists(tables);
        let mut plain = Vec::new();
        for table in tables {
            let family = table.family;
            let (mut offset, mut chains) = (0, Vec::new());
            for chain in &table.chains {
                offset += if chain.base.is_none() { layout::head_bytes(family) } else { 0 };
                let mut rules = Vec::new();
                for (number, rule) in chain.rules.iter().enumerate() {
                    let at = At { table: table.name, family, chain: &chain.name, rule: number, hooks: 0 };
                    let body = compile_rule(rule, at, sets, &mut shared)?;
                    // Lines are counted here.
                    let body = CompiledRule { body_lines: [0; PHASES], ..body };
                    rules.push(PlainRule { rule: rule.clone(), body, offset });
                    offset += layout::rule_bytes(rule, family);
                }
                offset += layout::tail_bytes(family);
                chains.push(PlainChain { base: chain.base, rules });
            }
            plain.push(PlainTable { family, chains });
        }
        Ok(Reference { lists, tables: plain })
    }

    /// The same as [`Compiled::run_observed`].
    pub fn run(&self, id: usize, cx: &mut PacketCx<'_>, observer: &mut impl Observer) -> HookVerdict {
        let table = id / 8;
        cx.recent.bind(&self.lists);
        observer.step(Step::XtTable(table), &cx.packet, cx.work);
        self.tables[table].walk(Hook::ALL[id % 8], table, cx, observer)
    }
}

fn fits(test: &Option<Test<IpNet>>, addr: IpAddr) -> bool {
    test.is_none_or(|t| t.value.contains(&addr) != t.invert)
}

impl Chains for PlainTable {
    fn stack_size(&self) -> usize {
        self.chains.iter().filter(|c| c.base.is_none()).count() + 1
    }

    fn base(&self, hook: Hook) -> Option<(usize, Policy)> {
        let mut bases = self.chains.iter().enumerate().filter_map(|(n, c)| Some((n, c.base?)));
        bases.find(|(_, (h, _))| *h == hook).map(|(n, (_, policy))| (n, policy))
    }

    fn next_hit(&self, chain: usize, from: Place, cx: &mut PacketCx<'_>) -> Option<Place> {
        let rules = &self.chains[chain].rules;
        let mut last_line = u64::MAX;
        for (place, PlainRule { rule, body, offset }) in rules.iter().enumerate().skip(from) {
            cx.work[Unit::RuleEvals] += 1;
            cx.work[Unit::LinesStream] +=
                layout::new_lines_of_failed_rule(*offset, self.family, &mut last_line);
            if !fits(&rule.src, cx.packet.src) {
                continue;
            }
            cx.work[Unit::RuleSrcHits] += 1;
            if !fits(&rule.dst, cx.packet.dst) {
                continue;
            }
            let ip_hits = cx.work[Unit::RuleIpHits];
            let matches = rule_matches(body, 0, cx);
            if cx.work[Unit::RuleIpHits] > ip_hits {
                cx.work[Unit::LinesChase] += layout::lines_of_body(*offset, rule, self.family);
            }
            if matches {
                cx.work[Unit::RuleHits] += 1;
                return Some(place);
            }
            if cx.hotdrop {
                return Some(place);
            }
        }
        None
    }

    fn target(&self, chain: usize, place: Place) -> (&Option<Target>, bool) {
        let rule = &self.chains[chain].rules[place].rule;
        let one = |t: Test<IpNet>| !t.invert && t.value.prefix_len() == t.value.max_prefix_len();
        (&rule.target, rule.dst.is_some_and(one))
    }

    fn rank(&self, chain: usize, place: Option<Place>) -> u32 {
        place.unwrap_or(self.chains[chain].rules.len()) as u32
    }
}
