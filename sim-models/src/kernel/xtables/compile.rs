//! Tables turned into the form that [`super::walk`] evaluates: address tests in columns, everything else in one
//! record a rule, and per rule the cache lines that a walk over it reads.
//!
//! A compiled table never changes; an update compiles the table anew, as `iptables-restore` replaces the blob.

use super::{CtStates, Match, Policy, Rule, Table, TableName, Target, Test, layout, opaque_name};
use crate::kernel::hook::{ChainKind, Hook, HookFn};
use crate::kernel::ipset::IpSets;
use ipnet::IpNet;
use sim_core::classify::linear::{AddrPair, AddrTest, LinearTable};
use sim_core::classify::{Family, Packet, Proto};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// All tables of one family on one node.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub(super) tables: Vec<CompiledTable>,
}

#[derive(Clone, Debug)]
pub(super) struct CompiledTable {
    pub(super) name: TableName,
    pub(super) addrs: Columns,
    pub(super) rules: Vec<CompiledRule>,
    /// lines_before[i]: distinct lines read by failing every rule before `i`, in address order.
    pub(super) lines_before: Vec<u32>,
    pub(super) chains: Vec<CompiledChain>,
    pub(super) size: layout::BlobSize,
}

/// Address columns of either family.
#[derive(Clone, Debug)]
pub(super) enum Columns {
    V4(LinearTable<1>),
    V6(LinearTable<4>),
}

#[derive(Clone, Debug)]
pub(super) struct CompiledChain {
    pub(super) first: u32,
    pub(super) end: u32,
    pub(super) base: Option<(Hook, Policy)>,
}

#[derive(Clone, Debug)]
pub(super) struct CompiledRule {
    /// Address tests that value and mask cannot decide.
    pub(super) negated: Option<Box<Negated>>,
    pub(super) ifaces: Option<Box<Ifaces>>,
    pub(super) proto: Option<Test<Proto>>,
    pub(super) matches: SmallVec<[CompiledMatch; 2]>,
    pub(super) target: Option<Target>,
    /// The destination is one address: what the rule leads to belongs to one Service.
    pub(super) one_dst: bool,
    /// Lines of the rule's body beyond those a failed rule reads.
    pub(super) body_lines: u16,
}

#[derive(Clone, Debug)]
pub(super) struct Negated {
    pub(super) src: Option<IpNet>,
    pub(super) dst: Option<IpNet>,
}

#[derive(Clone, Debug)]
pub(super) struct Ifaces {
    pub(super) input: Option<Test<Arc<str>>>,
    pub(super) output: Option<Test<Arc<str>>>,
}

#[derive(Clone, Debug)]
pub(in crate::kernel) enum CompiledMatch {
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

/// The priority of a table's chain at a hook.
pub(in crate::kernel) fn priority(table: TableName, hook: Hook) -> i32 {
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
    let mut out = CompiledTable {
        name: table.name,
        addrs: match table.family {
            Family::Ipv4 => Columns::V4(LinearTable::new()),
            Family::Ipv6 => Columns::V6(LinearTable::new()),
        },
        rules: Vec::new(),
        lines_before: Vec::new(),
        chains: Vec::with_capacity(table.chains.len()),
        size: layout::blob_size(table),
    };
    let (mut offset, mut last_line, mut lines) = (0u64, u64::MAX, 0u32);
    for chain in &table.chains {
        if chain.base.is_none() {
            offset += layout::head_bytes(table.family);
        }
        let first = out.rules.len() as u32;
        for rule in &chain.rules {
            out.lines_before.push(lines);
            lines += layout::new_lines_of_failed_rule(offset, table.family, &mut last_line);
            let bytes = layout::rule_bytes(rule, table.family);
            let body = layout::lines_of_body(offset, rule, table.family);
            offset += bytes;
            out.addrs.push(rule);
            out.rules.push(compile_rule(rule, &chain.name, sets, recents, body as u16)?);
        }
        offset += layout::tail_bytes(table.family);
        out.chains.push(CompiledChain { first, end: out.rules.len() as u32, base: chain.base });
    }
    out.lines_before.push(lines);
    Ok(out)
}

fn compile_rule(
    rule: &Rule,
    chain: &str,
    sets: &IpSets,
    recents: &mut BTreeMap<Arc<str>, usize>,
    body_lines: u16,
) -> Result<CompiledRule, CompileError> {
    if let Some(Target::Redirect { .. }) = rule.target {
        return Err(CompileError::NotSimulated { chain: chain.to_owned(), target: "REDIRECT" });
    }
    let negated = |test: &Option<Test<IpNet>>| test.filter(|t| t.invert).map(|t| t.value);
    let (src, dst) = (negated(&rule.src), negated(&rule.dst));
    let matches = rule.matches.iter().map(|m| compile_match(m, chain, sets, recents));
    let matches = matches.collect::<Result<_, CompileError>>()?;
    if let Some(Target::Opaque(text)) = &rule.target {
        return Err(not_modelled(chain, text));
    }
    Ok(CompiledRule {
        negated: (src.is_some() || dst.is_some()).then(|| Box::new(Negated { src, dst })),
        ifaces: (rule.in_iface.is_some() || rule.out_iface.is_some())
            .then(|| Box::new(Ifaces { input: rule.in_iface.clone(), output: rule.out_iface.clone() })),
        proto: rule.proto,
        matches,
        target: rule.target.clone(),
        one_dst: rule.dst.is_some_and(|t| !t.invert && t.value.prefix_len() == t.value.max_prefix_len()),
        body_lines,
    })
}

/// One match of a rule of `chain`. `recents` numbers the lists of recent matches.
pub(in crate::kernel) fn compile_match(
    m: &Match,
    chain: &str,
    sets: &IpSets,
    recents: &mut BTreeMap<Arc<str>, usize>,
) -> Result<CompiledMatch, CompileError> {
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
            index: sets
                .index_of(name)
                .ok_or_else(|| CompileError::NoSuchSet { chain: chain.to_owned(), set: name.to_string() })?,
            from_src: from_src.clone(),
            invert: *invert,
        },
        Match::Nfacct(_) => CompiledMatch::Nfacct,
        &Match::PhysdevIsIn { invert } => CompiledMatch::PhysdevIsIn { invert },
        &Match::IpvsVirtual { addr, port, proto } => CompiledMatch::IpvsVirtual { addr, port, proto },
        Match::Opaque(text) => return Err(not_modelled(chain, text)),
    })
}

pub(in crate::kernel) fn not_modelled(chain: &str, text: &str) -> CompileError {
    CompileError::NotModelled {
        chain: chain.to_owned(),
        extension: opaque_name(text).to_owned(),
        text: text.to_owned(),
    }
}

impl Columns {
    fn push(&mut self, rule: &Rule) {
        match self {
            Columns::V4(table) => table.push(addr_test(rule, words4)),
            Columns::V6(table) => table.push(addr_test(rule, words6)),
        }
    }

    /// The first rule in `first..end` whose addresses fit.
    pub(super) fn next_fit(&self, first: usize, end: usize, packet: &Packet) -> Option<usize> {
        match self {
            Columns::V4(t) => {
                t.next_fit(first..end, &AddrPair { dst: words4(packet.dst), src: words4(packet.src) })
            }
            Columns::V6(t) => {
                t.next_fit(first..end, &AddrPair { dst: words6(packet.dst), src: words6(packet.src) })
            }
        }
    }
}

fn addr_test<const W: usize>(rule: &Rule, words: fn(IpAddr) -> [u32; W]) -> AddrTest<W> {
    let column = |test: &Option<Test<IpNet>>| match test {
        Some(t) if !t.invert => (words(t.value.network()), words(t.value.netmask())),
        _ => ([0; W], [0; W]),
    };
    let ((dst, dst_mask), (src, src_mask)) = (column(&rule.dst), column(&rule.src));
    AddrTest { dst, dst_mask, src, src_mask }
}

fn words4(addr: IpAddr) -> [u32; 1] {
    match addr {
        IpAddr::V4(a) => [u32::from(a)],
        IpAddr::V6(a) => panic!("IPv6 address {a} in an IPv4 table"),
    }
}

fn words6(addr: IpAddr) -> [u32; 4] {
    match addr {
        IpAddr::V6(a) => {
            let bits = u128::from(a);
            [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
        }
        IpAddr::V4(a) => panic!("IPv4 address {a} in an IPv6 table"),
    }
}
