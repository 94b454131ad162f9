//! Tables turned into the form that [`super::walk`] evaluates: address tests in columns, targets beside them, and what
//! is common to many rules ([`bodies`](super::bodies)) once. Long chains are indexed ([`index`](super::index)).
//!
//! Which cache lines a rule reads follows from its place in the blob ([`blob`](super::blob)). `iptables-restore`
//! replaces the whole blob; here a change of some chains may also be made in place ([`update`](super::update)).

use super::blob::Blob;
use super::bodies::Bodies;
use super::columns::Columns;
use super::index::LongChain;
use super::update::Free;
use super::{ChainId, CtStates, Match, Policy, Rule, Table, TableName, Target, Test, layout, opaque_name};
use crate::kernel::hook::{ChainKind, Hook, HookFn};
use crate::kernel::ipset::IpSets;
use ipnet::IpNet;
use sim_core::classify::indexed::PHASES;
use sim_core::classify::{Family, Proto};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// An eighth of a cache line: entries are aligned to it.
pub(super) const STEP: u64 = layout::LINE / PHASES as u64;

/// All tables of one family on one node.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub(super) tables: Vec<CompiledTable>,
}

/// One table. Rules are kept in columns, each chain's side by side; [`Indexed`] chains in blocks.
#[derive(Clone, Debug)]
pub(super) struct CompiledTable {
    pub(super) name: TableName,
    pub(super) family: Family,
    pub(super) rules: Rules,
    pub(super) bodies: Bodies,
    /// By [`ChainId`](super::ChainId).
    pub(super) chains: Vec<CompiledChain>,
    pub(super) long: Vec<LongChain>,
    /// Numbers of chains and of long chains that were taken out.
    pub(super) gone: Vec<u32>,
    pub(super) free_long: Vec<u32>,
    pub(super) names: BTreeMap<Arc<str>, ChainId>,
    pub(super) blob: Blob,
    pub(super) size: layout::BlobSize,
    /// Lines that a rule reads which fails on its addresses, by its phase.
    pub(super) cost: [u8; PHASES],
}

/// Columns of rules.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) addrs: Columns,
    pub(super) entries: Vec<Entry>,
    pub(super) free: Free,
}

/// What of a rule is its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) target: Option<Target>,
    pub(super) body: u32,
    /// The destination is one address: what the rule leads to belongs to one Service.
    pub(super) one_dst: bool,
    /// Where it begins in a cache line, in eighths, relative to the chain's first rule. Not kept in [`LongChain`]s.
    pub(super) phase: u8,
}

#[derive(Clone, Debug)]
pub(super) struct CompiledChain {
    pub(super) base: Option<(Hook, Policy)>,
    pub(super) rules: ChainRules,
    /// Length in the blob, with head and tail.
    pub(super) bytes: u64,
    pub(super) name: Arc<str>,
}

/// Where a chain's rules are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChainRules {
    /// Side by side.
    Short { first: u32, len: u32 },
    /// Number of a [`LongChain`].
    Long(u32),
    /// The chain was taken out; no rule leads to it.
    Gone,
}

/// What rules do that differ in address and target only.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CompiledRule {
    /// Address tests that value and mask cannot decide.
    pub(super) negated: Option<Box<Negated>>,
    pub(super) ifaces: Option<Box<Ifaces>>,
    pub(super) proto: Option<Test<Proto>>,
    pub(super) matches: SmallVec<[CompiledMatch; 2]>,
    /// Bytes in the blob.
    pub(super) bytes: u32,
    /// Lines of the rule's body beyond those a failed rule reads, by its phase.
    pub(super) body_lines: [u8; PHASES],
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Negated {
    pub(super) src: Option<IpNet>,
    pub(super) dst: Option<IpNet>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ifaces {
    pub(super) input: Option<Test<Arc<str>>>,
    pub(super) output: Option<Test<Arc<str>>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum CompiledMatch {
    Comment,
    Ports { sport: Option<Test<(u16, u16)>>, dport: Option<Test<(u16, u16)>> },
    Statistic { p: u32 },
    Mark { value: u32, mask: u32, invert: bool },
    Conntrack { states: CtStates, invert: bool },
    AddrtypeLocal { src: bool, invert: bool },
    Recent { table: usize, set: bool, seconds: Option<u32> },
    Set { index: usize, from_src: SmallVec<[bool; 3]>, invert: bool },
    Nfacct,
    PhysdevIsIn { invert: bool },
    IpvsVirtual { addr: IpAddr, port: u16, proto: Proto },
}

/// A rule refers to something that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A rule does something that packets cannot go through here.
    #[error("chain {chain}: {target} is written but not simulated")]
    NotSimulated {
        /// The chain with the rule.
        chain: String,
        /// Its target.
        target: &'static str,
    },
    /// A set match names a set that was not created.
    #[error("chain {chain}: set {set} does not exist")]
    NoSuchSet {
        /// The chain with the rule.
        chain: String,
        /// The missing set.
        set: String,
    },
    /// A rule uses an extension that is only kept as text.
    #[error("chain {chain}: what {extension} does is not modelled: {text}")]
    NotModelled {
        /// The chain with the rule.
        chain: String,
        /// Name of the match or target.
        extension: String,
        /// How it stands in the rule.
        text: String,
    },
}

impl Compiled {
    /// Compiles `tables`; `sets` are the node's ipsets, which set matches refer to.
    pub fn new(tables: &[Table], sets: &IpSets) -> Result<Self, CompileError> {
        let mut recents = BTreeMap::new();
        let tables = tables.iter().map(|t| compile_table(t, sets, &mut recents)).collect::<Result<_, _>>()?;
        Ok(Compiled { tables })
    }

    /// The hook functions these tables register, by the priorities of `iptable_{raw,mangle,nat,filter,security}.c`.
    /// A function's `id` is the table's index times 8 plus the hook's.
    pub fn hooks(&self) -> Vec<HookFn> {
        let mut hooks = Vec::new();
        for (index, table) in self.tables.iter().enumerate() {
            for chain in &table.chains {
                let Some((hook, _)) = chain.base else { continue };
                let kind = if table.name == TableName::Nat { ChainKind::Nat } else { ChainKind::Filter };
                let priority = priority(table.name, hook);
                hooks.push(HookFn { hook, priority, kind, id: index * 8 + hook as usize });
            }
        }
        hooks
    }

    /// Kernel memory of all blobs and their counters on a machine with `cpus` CPUs.
    pub fn memory_bytes(&self, cpus: u64) -> u64 {
        self.tables.iter().map(|t| t.size.memory_bytes(cpus)).sum()
    }
}

fn priority(table: TableName, hook: Hook) -> i32 {
    match (table, hook) {
        (TableName::Raw, _) => -300,
        (TableName::Mangle, _) => -150,
        (TableName::Nat, Hook::Prerouting | Hook::Output) => -100,
        (TableName::Nat, _) => 100,
        (TableName::Filter, _) => 0,
        (TableName::Security, _) => 50,
    }
}

fn compile_table(
    table: &Table,
    sets: &IpSets,
    recents: &mut BTreeMap<Arc<str>, usize>,
) -> Result<CompiledTable, CompileError> {
    let count = table.chains.iter().map(|c| c.rules.len()).sum();
    let mut out = CompiledTable {
        name: table.name,
        family: table.family,
        rules: Rules::with_room(table.family, count),
        bodies: Bodies::new(table.family),
        chains: Vec::with_capacity(table.chains.len()),
        long: Vec::new(),
        gone: Vec::new(),
        free_long: Vec::new(),
        names: BTreeMap::new(),
        blob: Blob::default(),
        size: layout::blob_size(table),
        cost: std::array::from_fn(|phase| {
            layout::new_lines_of_failed_rule(phase as u64 * STEP, table.family, &mut u64::MAX.clone()) as u8
        }),
    };
    for chain in &table.chains {
        let first = out.rules.entries.len();
        let mut bytes = 0;
        for rule in &chain.rules {
            let entry = out.entry(rule, &chain.name, sets, recents, bytes)?;
            bytes += u64::from(out.bodies.get(entry.body).bytes);
            out.rules.push(rule, entry);
        }
        let rules = out.chain_rules(first, chain.rules.len());
        let bytes = bytes + out.ends_bytes(chain.base.is_some());
        out.blob.push(out.chains.len(), bytes / STEP);
        out.chains.push(CompiledChain { base: chain.base, rules, bytes, name: chain.name.clone() });
    }
    out.names = (0..).map(ChainId).zip(&table.chains).map(|(id, c)| (c.name.clone(), id)).collect();
    Ok(out)
}

impl CompiledTable {
    /// What is kept of `rule`, `bytes` behind the chain's first.
    pub(super) fn entry(
        &mut self,
        rule: &Rule,
        chain: &str,
        sets: &IpSets,
        recents: &mut BTreeMap<Arc<str>, usize>,
        bytes: u64,
    ) -> Result<Entry, CompileError> {
        if let Some(Target::Redirect { .. }) = rule.target {
            return Err(CompileError::NotSimulated { chain: chain.to_owned(), target: "REDIRECT" });
        }
        let family = self.family;
        let body = self.bodies.number(rule, || compile_rule(rule, chain, sets, recents, family))?;
        if let Some(Target::Opaque(text)) = &rule.target {
            return Err(not_modelled(chain, text));
        }
        Ok(Entry {
            target: rule.target.clone(),
            body,
            one_dst: rule.dst.is_some_and(|t| !t.invert && t.value.prefix_len() == t.value.max_prefix_len()),
            phase: (bytes / STEP % PHASES as u64) as u8,
        })
    }

    /// Bytes of a chain's head and tail.
    pub(super) fn ends_bytes(&self, is_base: bool) -> u64 {
        layout::tail_bytes(self.family) + if is_base { 0 } else { layout::head_bytes(self.family) }
    }
}

pub(super) fn compile_rule(
    rule: &Rule,
    chain: &str,
    sets: &IpSets,
    recents: &mut BTreeMap<Arc<str>, usize>,
    family: Family,
) -> Result<CompiledRule, CompileError> {
    let negated = |test: &Option<Test<IpNet>>| test.filter(|t| t.invert).map(|t| t.value);
    let (src, dst) = (negated(&rule.src), negated(&rule.dst));
    let matches = rule
        .matches
        .iter()
        .map(|m| {
            Ok(match m {
                Match::Comment(_) => CompiledMatch::Comment,
                Match::Ports { sport, dport, .. } => CompiledMatch::Ports { sport: *sport, dport: *dport },
                Match::Statistic { p } => CompiledMatch::Statistic { p: *p },
                &Match::Mark { value, mask, invert } => CompiledMatch::Mark { value, mask, invert },
                &Match::Conntrack { states, invert } => CompiledMatch::Conntrack { states, invert },
                &Match::State(states) => CompiledMatch::Conntrack { states, invert: false },
                &Match::AddrtypeLocal { src, invert } => CompiledMatch::AddrtypeLocal { src, invert },
                Match::Recent { name, set, seconds } => {
                    let next = recents.len();
                    let table = *recents.entry(name.clone()).or_insert(next);
                    CompiledMatch::Recent { table, set: *set, seconds: *seconds }
                }
                Match::Set { name, from_src, invert } => CompiledMatch::Set {
                    index: sets.index_of(name).ok_or_else(|| CompileError::NoSuchSet {
                        chain: chain.to_owned(),
                        set: name.to_string(),
                    })?,
                    from_src: from_src.clone(),
                    invert: *invert,
                },
                Match::Nfacct(_) => CompiledMatch::Nfacct,
                &Match::PhysdevIsIn { invert } => CompiledMatch::PhysdevIsIn { invert },
                &Match::IpvsVirtual { addr, port, proto } => CompiledMatch::IpvsVirtual { addr, port, proto },
                Match::Opaque(text) => return Err(not_modelled(chain, text)),
            })
        })
        .collect::<Result<_, CompileError>>()?;
    let bytes = layout::rule_bytes(rule, family);
    assert!(bytes.is_multiple_of(STEP), "entries are aligned to 8 bytes: {bytes} of {rule:?}");
    Ok(CompiledRule {
        negated: (src.is_some() || dst.is_some()).then(|| Box::new(Negated { src, dst })),
        ifaces: (rule.in_iface.is_some() || rule.out_iface.is_some())
            .then(|| Box::new(Ifaces { input: rule.in_iface.clone(), output: rule.out_iface.clone() })),
        proto: rule.proto,
        matches,
        bytes: bytes as u32,
        body_lines: std::array::from_fn(|phase| {
            u8::try_from(layout::lines_of_body(phase as u64 * STEP, rule, family)).expect("a rule is short")
        }),
    })
}

fn not_modelled(chain: &str, text: &str) -> CompileError {
    CompileError::NotModelled {
        chain: chain.to_owned(),
        extension: opaque_name(text).to_owned(),
        text: text.to_owned(),
    }
}

impl Rules {
    fn with_room(family: Family, count: usize) -> Self {
        Rules { addrs: Columns::new(family), entries: Vec::with_capacity(count), free: Free::default() }
    }

    pub(super) fn push(&mut self, rule: &Rule, entry: Entry) {
        self.addrs.push(rule);
        self.entries.push(entry);
    }
}
