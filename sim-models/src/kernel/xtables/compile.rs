//! Tables turned into the form that [`super::walk`] evaluates: address tests in columns, targets beside them, and what
//! is common to many rules ([`bodies`](super::bodies)) once. Long chains are indexed ([`index`](super::index)).
//!
//! Which cache lines a rule reads follows from its place in the blob ([`blob`](super::blob)). `iptables-restore`
//! replaces the whole blob; here a change of some chains may also be made in place ([`update`](super::update)).

use super::blob::Blob;
use super::bodies::Bodies;
use super::check::{self, Place};
use super::columns::Columns;
pub use super::error::{CompileError, Problem, Warning};
use super::index::LongChain;
use super::recent::{Ask, ListSpec};
use super::update::Free;
use super::{
    ChainId, CtStates, ExtraMatch, Match, Policy, Rule, Table, TableName, Target, Test, layout, opaque_name,
    print,
};
use crate::kernel::hook::{ChainKind, Hook, HookFn};
use crate::kernel::ipset::IpSets;
use crate::kernel::options::CompileOptions;
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
    /// Lists of `-m recent`, by the index that compiled matches have.
    pub(super) lists: Arc<[ListSpec]>,
    warnings: Vec<Warning>,
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
    pub(super) user_chains: usize,
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
    /// Whether columns have a test of it: otherwise they need not be read.
    pub(super) tests_src: bool,
    pub(super) tests_dst: bool,
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
    /// Hooks that lead to it, a bit each.
    pub(super) hooks: u8,
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

/// What is counted and named over all tables while they are compiled.
#[derive(Default)]
pub(super) struct Shared {
    /// Lists of `-m recent`, in the order in which loading the rules makes them.
    recents: BTreeMap<Arc<str>, usize>,
    pub(super) lists: Vec<ListSpec>,
    /// Matches with a place of their own in [`super::memory::Memory`].
    credits: usize,
    counts: usize,
    options: CompileOptions,
    pub(super) warnings: Vec<Warning>,
}

impl Shared {
    pub(super) fn with(options: CompileOptions) -> Self {
        Shared { options, ..Shared::default() }
    }

    /// Lists in the order in which loading makes them: `iptables-restore` puts user chains in the order of their names
    /// (`libiptc.c:iptcc_insert_chain` sorts), and each rule is checked in its turn.
    pub(super) fn number_lists(&mut self, tables: &[Table]) {
        for table in tables {
            let rules = || table.chains.iter().flat_map(|chain| &chain.rules);
            if !rules().flat_map(|rule| &rule.matches).any(asks_a_list) {
                continue;
            }
            let chains = print::order_of_chains(table).into_iter().map(|at| &table.chains[at]);
            for m in chains.flat_map(|chain| &chain.rules).flat_map(|rule| &rule.matches) {
                self.number_list(m, table.family);
            }
        }
    }

    /// Numbers the list that this match asks, if it asks one.
    pub(super) fn number_list(&mut self, m: &Match, family: Family) {
        match m {
            Match::Recent { name, set, seconds } => {
                let full = match family {
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

/// What rules do that differ in address and target only.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CompiledRule {
    /// Address tests that value and mask cannot decide.
    pub(super) negated: Option<Box<Negated>>,
    pub(super) ifaces: Option<Box<Ifaces>>,
    pub(super) proto: Option<Test<Proto>>,
    pub(super) fragment: Option<bool>,
    pub(super) matches: SmallVec<[CompiledMatch; 2]>,
    /// Bytes in the blob.
    pub(super) bytes: u32,
    /// Lines of the rule's body beyond those a failed rule reads, by its phase.
    pub(super) body_lines: [u16; PHASES],
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
pub(in crate::kernel) enum CompiledMatch {
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

/// Where a rule stands.
#[derive(Clone, Copy)]
pub(super) struct At<'t> {
    pub(super) table: TableName,
    pub(super) family: Family,
    pub(super) chain: &'t str,
    pub(super) rule: usize,
    pub(super) hooks: u8,
}

impl At<'_> {
    pub(super) fn error(self, problem: Problem) -> CompileError {
        CompileError { table: self.table, chain: self.chain.to_owned(), rule: self.rule + 1, problem }
    }

    /// What an extension kept as text comes to: a warning or an error.
    pub(super) fn opaque(self, text: &str, is_target: bool, shared: &mut Shared) -> Result<(), CompileError> {
        let (extension, text) = (opaque_name(text).to_owned(), text.to_owned());
        if !shared.options.allow_opaque {
            return Err(self.error(Problem::NotModelled { extension, text }));
        }
        let (table, chain, rule) = (self.table, self.chain.to_owned(), self.rule + 1);
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
        let mut shared = Shared::with(options);
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

fn compile_table(table: &Table, sets: &IpSets, shared: &mut Shared) -> Result<CompiledTable, CompileError> {
    let hooks = sound(table)?;
    let count = table.chains.iter().map(|c| c.rules.len()).sum();
    let mut out = CompiledTable {
        name: table.name,
        family: table.family,
        rules: Rules::with_room(table.family, count),
        bodies: Bodies::new(table.family),
        chains: Vec::with_capacity(table.chains.len()),
        long: Vec::new(),
        user_chains: table.chains.iter().filter(|chain| chain.base.is_none()).count(),
        gone: Vec::new(),
        free_long: Vec::new(),
        names: BTreeMap::new(),
        blob: Blob::default(),
        size: layout::blob_size(table),
        cost: std::array::from_fn(|phase| {
            layout::new_lines_of_failed_rule(phase as u64 * STEP, table.family, &mut u64::MAX.clone()) as u8
        }),
    };
    for (chain, hooks) in table.chains.iter().zip(hooks) {
        let first = out.rules.entries.len();
        let mut bytes = 0;
        for (number, rule) in chain.rules.iter().enumerate() {
            let at = At { table: table.name, family: table.family, chain: &chain.name, rule: number, hooks };
            let entry = out.entry(rule, at, sets, shared, bytes)?;
            bytes += u64::from(out.bodies.get(entry.body).bytes);
            out.rules.push(rule, entry);
        }
        let rules = out.chain_rules(first, chain.rules.len());
        let bytes = bytes + out.ends_bytes(chain.base.is_some());
        out.blob.push(out.chains.len(), bytes / STEP);
        out.chains.push(CompiledChain { base: chain.base, rules, bytes, name: chain.name.clone(), hooks });
    }
    out.names = (0..).map(ChainId).zip(&table.chains).map(|(id, c)| (c.name.clone(), id)).collect();
    Ok(out)
}

impl CompiledTable {
    /// What is kept of `rule`, `bytes` behind the chain's first.
    pub(super) fn entry(
        &mut self,
        rule: &Rule,
        at: At<'_>,
        sets: &IpSets,
        shared: &mut Shared,
        bytes: u64,
    ) -> Result<Entry, CompileError> {
        check_rule(rule, at)?;
        let body = self.bodies.number(rule, || compile_rule(rule, at, sets, shared))?;
        if let Some(Target::Opaque(text)) = &rule.target {
            at.opaque(text, true, shared)?;
        }
        Ok(Entry {
            target: rule.target.clone(),
            body,
            one_dst: rule.dst.is_some_and(|t| !t.invert && t.value.prefix_len() == t.value.max_prefix_len()),
            tests_src: rule.src.is_some_and(|t| !t.invert),
            tests_dst: rule.dst.is_some_and(|t| !t.invert),
            phase: (bytes / STEP % PHASES as u64) as u8,
        })
    }

    /// Bytes of a chain's head and tail.
    pub(super) fn ends_bytes(&self, is_base: bool) -> u64 {
        layout::tail_bytes(self.family) + if is_base { 0 } else { layout::head_bytes(self.family) }
    }
}

/// What the kernel refuses where the rule stands.
pub(super) fn check_rule(rule: &Rule, at: At<'_>) -> Result<(), CompileError> {
    let place = Place { table: at.table, family: at.family, hooks: at.hooks, proto: rule.proto, rule };
    match check::refused(place) {
        Some(why) => Err(at.error(Problem::Refused(why))),
        None => Ok(()),
    }
}

/// Whether every jump leads to a user chain and none in circles; gives the hooks that lead to each chain.
pub(super) fn sound(table: &Table) -> Result<Vec<u8>, CompileError> {
    let name = |chain: u32| table.chains[chain as usize].name.to_string();
    for (chain, rules) in table.chains.iter().map(|chain| &chain.rules).enumerate() {
        for (rule, of) in rules.iter().enumerate() {
            let Some(Target::Jump(ChainId(to)) | Target::Goto(ChainId(to))) = of.target else { continue };
            let at = at_rule(table, chain, rule);
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
        at_rule(table, chain, rule).error(Problem::Loop(name(to)))
    })
}

fn at_rule(table: &Table, chain: usize, rule: usize) -> At<'_> {
    At { table: table.name, family: table.family, chain: &table.chains[chain].name, rule, hooks: 0 }
}

/// The body of a rule that [`check_rule`] has found good.
pub(super) fn compile_rule(
    rule: &Rule,
    at: At<'_>,
    sets: &IpSets,
    shared: &mut Shared,
) -> Result<CompiledRule, CompileError> {
    let negated = |test: &Option<Test<IpNet>>| test.filter(|t| t.invert).map(|t| t.value);
    let (src, dst) = (negated(&rule.src), negated(&rule.dst));
    let matches = rule
        .matches
        .iter()
        .map(|m| compile_match(m, at, sets, shared))
        .collect::<Result<_, CompileError>>()?;
    let bytes = layout::rule_bytes(rule, at.family);
    assert!(bytes.is_multiple_of(STEP), "entries are aligned to 8 bytes: {bytes} of {rule:?}");
    Ok(CompiledRule {
        negated: (src.is_some() || dst.is_some()).then(|| Box::new(Negated { src, dst })),
        ifaces: (rule.in_iface.is_some() || rule.out_iface.is_some())
            .then(|| Box::new(Ifaces { input: rule.in_iface.clone(), output: rule.out_iface.clone() })),
        proto: rule.proto,
        fragment: rule.fragment,
        matches,
        bytes: bytes as u32,
        body_lines: std::array::from_fn(|phase| {
            let lines = layout::lines_of_body(phase as u64 * STEP, rule, at.family);
            u16::try_from(lines).expect("a rule is shorter than 64 KiB")
        }),
    })
}

/// One match; its list has its number already.
pub(super) fn compile_match(
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

impl Rules {
    fn with_room(family: Family, count: usize) -> Self {
        Rules { addrs: Columns::new(family), entries: Vec::with_capacity(count), free: Free::default() }
    }

    pub(super) fn push(&mut self, rule: &Rule, entry: Entry) {
        self.addrs.push(rule);
        self.entries.push(entry);
    }
}
