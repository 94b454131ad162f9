//! Tables turned into the form that [`super::walk`] evaluates: address tests in columns, everything else in one
//! record a rule, and per rule the cache lines that a walk over it reads.
//!
//! A compiled table never changes; an update compiles the table anew, as `iptables-restore` replaces the blob.

use super::check::{self, Place};
use super::recent::{Ask, ListSpec};
use super::{
    ChainId, CtStates, ExtraMatch, Match, Policy, Rule, Table, TableName, Target, Test, layout, opaque_name,
    print,
};
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
    /// Lists of `-m recent`, by the index that compiled matches have.
    pub(super) lists: Arc<[ListSpec]>,
    warnings: Vec<Warning>,
}

/// How to compile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// Compile rules with extensions that are kept as text. Such a rule decides nothing: a match of which nothing is
    /// known does not match, and a target of which nothing is known lets the packet go on to the next rule. So the
    /// verdict is that of the rules that are known, and each [`Warning`] names one that may change it. (To let an
    /// unknown match match would make its rule apply to all packets, which what people write matches for is never
    /// meant to do.) Sizes of such tables are too small.
    pub allow_opaque: bool,
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
    /// Jumps that may be open at once: as many as there are ERROR entries (`translate_table`).
    pub(super) stack_size: usize,
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
    /// Rules that test the source, by test, in order.
    pub(super) src_tests: Vec<(Test<IpNet>, Vec<u32>)>,
}

impl CompiledChain {
    /// How many of the rules `from..to` fail at the source: the kernel compares no more of those.
    pub(super) fn src_misses(&self, from: usize, to: usize, packet: &Packet) -> u32 {
        let mut misses = 0;
        for (test, rules) in &self.src_tests {
            if test.value.contains(&packet.src) == test.invert {
                let before = |end: usize| rules.partition_point(|&rule| (rule as usize) < end);
                misses += (before(to) - before(from)) as u32;
            }
        }
        misses
    }
}

/// What is counted and named over all tables while they are compiled.
#[derive(Default)]
struct Shared {
    /// Lists of `-m recent`, in the order in which loading the rules makes them.
    recents: BTreeMap<Arc<str>, usize>,
    lists: Vec<ListSpec>,
    /// Matches with a place of their own in [`super::memory::Memory`].
    credits: usize,
    counts: usize,
    options: CompileOptions,
    warnings: Vec<Warning>,
}

impl Shared {
    /// Lists in the order in which loading makes them: `iptables-restore` puts user chains in the order of their names
    /// (`libiptc.c:iptcc_insert_chain` sorts), and each rule is checked in its turn.
    fn number_lists(&mut self, tables: &[Table]) {
        for table in tables {
            let rules = || table.chains.iter().flat_map(|chain| &chain.rules);
            if !rules().flat_map(|rule| &rule.matches).any(asks_a_list) {
                continue;
            }
            let chains = print::order_of_chains(table).into_iter().map(|at| &table.chains[at]);
            for m in chains.flat_map(|chain| &chain.rules).flat_map(|rule| &rule.matches) {
                match m {
                    Match::Recent { name, set, seconds } => {
                        let full = match table.family {
                            Family::Ipv4 => IpAddr::from([255; 4]),
                            Family::Ipv6 => IpAddr::from([255; 16]),
                        };
                        self.list(name, full, &Ask::of_kube_proxy(*set, *seconds));
                    }
                    Match::Extra(extra) => {
                        if let ExtraMatch::Recent(of) = &**extra {
                            self.list(&of.name, of.mask, &of.ask);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Another rule that asks this of the list called `name`.
    fn list(&mut self, name: &Arc<str>, mask: IpAddr, ask: &Ask) {
        let index = *self.recents.entry(name.clone()).or_insert(self.lists.len());
        match self.lists.get_mut(index) {
            Some(list) => list.also(ask),
            None => self.lists.push(ListSpec::new(name.clone(), mask, ask)),
        }
    }
}

/// Whether it is a recent match.
fn asks_a_list(m: &Match) -> bool {
    match m {
        Match::Recent { .. } => true,
        Match::Extra(extra) => matches!(**extra, ExtraMatch::Recent(_)),
        _ => false,
    }
}

/// Gives the place before and moves on.
fn take(next: &mut usize) -> usize {
    *next += 1;
    *next - 1
}

#[derive(Clone, Debug)]
pub(super) struct CompiledRule {
    /// Address tests that value and mask cannot decide.
    pub(super) negated: Option<Box<Negated>>,
    pub(super) ifaces: Option<Box<Ifaces>>,
    pub(super) proto: Option<Test<Proto>>,
    pub(super) fragment: Option<bool>,
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

#[derive(Clone, Debug, PartialEq)]
pub(super) enum CompiledMatch {
    Comment,
    Ports {
        proto: Proto,
        sport: Option<Test<(u16, u16)>>,
        dport: Option<Test<(u16, u16)>>,
    },
    Statistic {
        p: u32,
    },
    Mark {
        value: u32,
        mask: u32,
        invert: bool,
    },
    Conntrack {
        states: CtStates,
        invert: bool,
    },
    AddrtypeLocal {
        src: bool,
        invert: bool,
    },
    Recent {
        table: usize,
        set: bool,
        seconds: Option<u32>,
    },
    Set {
        index: usize,
        from_src: SmallVec<[bool; 3]>,
        invert: bool,
    },
    Nfacct,
    PhysdevIsIn {
        invert: bool,
    },
    IpvsVirtual {
        addr: IpAddr,
        port: u16,
        proto: Proto,
    },
    /// With its place among those that remember something: a list, a set, a credit, a count.
    Extra {
        of: Box<ExtraMatch>,
        place: usize,
    },
    /// Not known, and so never true.
    Opaque,
}

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

/// Where a rule stands.
#[derive(Clone, Copy)]
struct At<'t> {
    table: &'t Table,
    chain: usize,
    rule: usize,
    hooks: u8,
}

impl At<'_> {
    fn error(self, problem: Problem) -> CompileError {
        let chain = self.table.chains[self.chain].name.to_string();
        CompileError { table: self.table.name, chain, rule: self.rule + 1, problem }
    }

    /// What an extension kept as text comes to: a warning or an error.
    fn opaque(self, text: &str, is_target: bool, shared: &mut Shared) -> Result<(), CompileError> {
        let (extension, text) = (opaque_name(text).to_owned(), text.to_owned());
        if !shared.options.allow_opaque {
            return Err(self.error(Problem::NotModelled { extension, text }));
        }
        let chain = self.table.chains[self.chain].name.to_string();
        let (table, rule) = (self.table.name, self.rule + 1);
        shared.warnings.push(Warning { table, chain, rule, extension, text, is_target });
        Ok(())
    }
}

impl Compiled {
    /// Compiles `tables`; `sets` are the node's ipsets, which set matches refer to.
    pub fn new(tables: &[Table], sets: &IpSets) -> Result<Self, CompileError> {
        Compiled::with(tables, sets, CompileOptions::default())
    }

    /// The same with options.
    pub fn with(tables: &[Table], sets: &IpSets, options: CompileOptions) -> Result<Self, CompileError> {
        let mut shared = Shared { options, ..Shared::default() };
        shared.number_lists(tables);
        let tables = tables.iter().map(|t| compile_table(t, sets, &mut shared)).collect::<Result<_, _>>()?;
        Ok(Compiled { tables, lists: shared.lists.into(), warnings: shared.warnings })
    }

    /// Rules that decide nothing because they are not known; none unless options allow it.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
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

fn compile_table(table: &Table, sets: &IpSets, shared: &mut Shared) -> Result<CompiledTable, CompileError> {
    let hooks = sound(table)?;
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
        stack_size: table.chains.iter().filter(|chain| chain.base.is_none()).count() + 1,
    };
    let (mut offset, mut last_line, mut lines) = (0u64, u64::MAX, 0u32);
    for (chain, at_chain) in table.chains.iter().zip(0..) {
        if chain.base.is_none() {
            offset += layout::head_bytes(table.family);
        }
        let first = out.rules.len() as u32;
        for (rule, at_rule) in chain.rules.iter().zip(0..) {
            out.lines_before.push(lines);
            lines += layout::new_lines_of_failed_rule(offset, table.family, &mut last_line);
            let bytes = layout::rule_bytes(rule, table.family);
            let body = layout::lines_of_body(offset, rule, table.family);
            offset += bytes;
            out.addrs.push(rule);
            let at = At { table, chain: at_chain, rule: at_rule, hooks: hooks[at_chain] };
            out.rules.push(compile_rule(rule, at, sets, shared, body as u16)?);
        }
        offset += layout::tail_bytes(table.family);
        let src_tests = src_tests(&chain.rules, first);
        out.chains.push(CompiledChain { first, end: out.rules.len() as u32, base: chain.base, src_tests });
    }
    out.lines_before.push(lines);
    Ok(out)
}

fn src_tests(rules: &[Rule], first: u32) -> Vec<(Test<IpNet>, Vec<u32>)> {
    let mut tests: BTreeMap<(IpNet, bool), Vec<u32>> = BTreeMap::new();
    for (at, rule) in (first..).zip(rules) {
        if let Some(test) = rule.src {
            tests.entry((test.value, test.invert)).or_default().push(at);
        }
    }
    tests.into_iter().map(|((value, invert), rules)| (Test { invert, value }, rules)).collect()
}

/// Whether every jump leads to a user chain and none in circles; gives the hooks that lead to each chain.
fn sound(table: &Table) -> Result<Vec<u8>, CompileError> {
    let name = |chain: u32| table.chains[chain as usize].name.to_string();
    for (chain, rules) in table.chains.iter().map(|chain| &chain.rules).enumerate() {
        for (rule, of) in rules.iter().enumerate() {
            let Some(Target::Jump(ChainId(to)) | Target::Goto(ChainId(to))) = of.target else { continue };
            let at = At { table, chain, rule, hooks: 0 };
            match table.chains.get(to as usize) {
                None => return Err(at.error(Problem::NoSuchChain { to, chains: table.chains.len() })),
                Some(found) if found.base.is_some() => return Err(at.error(Problem::BuiltIn(name(to)))),
                Some(_) => {}
            }
        }
    }
    check::reached_from(table).map_err(|check::Loop { chain, rule }| {
        let Some(Target::Jump(ChainId(to)) | Target::Goto(ChainId(to))) =
            table.chains[chain].rules[rule].target
        else {
            unreachable!("a loop is closed by a jump");
        };
        At { table, chain, rule, hooks: 0 }.error(Problem::Loop(name(to)))
    })
}

fn compile_rule(
    rule: &Rule,
    at: At<'_>,
    sets: &IpSets,
    shared: &mut Shared,
    body_lines: u16,
) -> Result<CompiledRule, CompileError> {
    let (table, family) = (at.table.name, at.table.family);
    let place = Place { table, family, hooks: at.hooks, proto: rule.proto, rule };
    if let Some(why) = check::refused(place) {
        return Err(at.error(Problem::Refused(why)));
    }
    let negated = |test: &Option<Test<IpNet>>| test.filter(|t| t.invert).map(|t| t.value);
    let (src, dst) = (negated(&rule.src), negated(&rule.dst));
    let matches = rule
        .matches
        .iter()
        .map(|m| compile_match(m, at, sets, shared))
        .collect::<Result<_, CompileError>>()?;
    if let Some(Target::Opaque(text)) = &rule.target {
        at.opaque(text, true, shared)?;
    }
    Ok(CompiledRule {
        negated: (src.is_some() || dst.is_some()).then(|| Box::new(Negated { src, dst })),
        ifaces: (rule.in_iface.is_some() || rule.out_iface.is_some())
            .then(|| Box::new(Ifaces { input: rule.in_iface.clone(), output: rule.out_iface.clone() })),
        proto: rule.proto,
        fragment: rule.fragment,
        matches,
        target: rule.target.clone(),
        one_dst: rule.dst.is_some_and(|t| !t.invert && t.value.prefix_len() == t.value.max_prefix_len()),
        body_lines,
    })
}

fn compile_match(
    m: &Match,
    at: At<'_>,
    sets: &IpSets,
    shared: &mut Shared,
) -> Result<CompiledMatch, CompileError> {
    let set = |name: &str| sets.index_of(name).ok_or_else(|| at.error(Problem::NoSuchSet(name.to_owned())));
    Ok(match m {
        Match::Comment(_) => CompiledMatch::Comment,
        &Match::Ports { proto, sport, dport } => CompiledMatch::Ports { proto, sport, dport },
        Match::Statistic { p } => CompiledMatch::Statistic { p: *p },
        &Match::Mark { value, mask, invert } => CompiledMatch::Mark { value, mask, invert },
        &Match::Conntrack { states, invert } => CompiledMatch::Conntrack { states, invert },
        &Match::State(states) => CompiledMatch::Conntrack { states, invert: false },
        &Match::AddrtypeLocal { src, invert } => CompiledMatch::AddrtypeLocal { src, invert },
        Match::Recent { name, set, seconds } => {
            CompiledMatch::Recent { table: shared.recents[name], set: *set, seconds: *seconds }
        }
        Match::Set { name, from_src, invert } => {
            CompiledMatch::Set { index: set(name)?, from_src: from_src.clone(), invert: *invert }
        }
        Match::Nfacct(_) => CompiledMatch::Nfacct,
        &Match::PhysdevIsIn { invert } => CompiledMatch::PhysdevIsIn { invert },
        &Match::IpvsVirtual { addr, port, proto } => CompiledMatch::IpvsVirtual { addr, port, proto },
        Match::Extra(of) => {
            let place = match &**of {
                ExtraMatch::Recent(recent) => shared.recents[&recent.name],
                ExtraMatch::Set(flags) => set(&flags.name)?,
                ExtraMatch::Limit(_) => take(&mut shared.credits),
                ExtraMatch::Statistic(_) => take(&mut shared.counts),
                _ => 0,
            };
            CompiledMatch::Extra { of: of.clone(), place }
        }
        Match::Opaque(text) => {
            at.opaque(text, false, shared)?;
            CompiledMatch::Opaque
        }
    })
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
