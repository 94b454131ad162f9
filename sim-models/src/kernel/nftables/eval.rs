//! The register machine (`net/netfilter/nf_tables_core.c:nft_do_chain`) over a compiled table.
//!
//! An [`Engine`] is built once and shared by every node with equal rules; packets do not change it. The sets
//! that packets do change are a node's own [`DynamicSets`]. Chains and sets are behind `Arc`, so that a copy that
//! differs in one chain costs a vector of pointers.
//!
//! Cache lines are counted distinct within one visit of a chain: the chain's structure, the lines of its blob
//! that were read, and what its lookups reached. A chain visited again at a later hook is counted again.

use super::compile::{Code, Codes, CompiledChain};
use super::expr::{Expr, Flow, Lookup, Regs, SetRef};
use super::set::dynamic::DynamicSets;
use super::set::{Backend, Found, derive_seed, key_words};
use super::tally::Tally;
use super::validate::JUMP_STACK;
use super::xt_steps::XtSteps;
use super::{ChainId, Key, Rule, SetId, Table, Verdict, memory};
use crate::kernel::hook::{ChainKind, Hook, HookFn, HookVerdict, PacketCx};
use crate::kernel::options::{CompileOptions, Warning};
use crate::kernel::trace::{Observer, Step};
use crate::kernel::xtables::recent::ListSpec;
use sim_core::classify::{Family, Unit};
use sim_core::units::{SimSpan, SimTime};
use std::sync::Arc;

/// A compiled table.
#[derive(Clone, Debug)]
pub struct Engine {
    family: Family,
    seed: u64,
    hooks: Vec<HookFn>,
    chains: Vec<Arc<CompiledChain>>,
    pub(super) codes: Codes,
    sets: Vec<Arc<NamedSet>>,
    /// Bytes of chain structures, names and set names, which rule changes do not touch.
    fixed_bytes: u64,
    /// Of chains that iptables-nft wrote, their table and place in it.
    pub(super) places: Vec<(u32, u32)>,
    pub(super) warnings: Vec<Warning>,
    /// Lists that the rules of iptables-nft ask, to be bound before one is.
    pub(super) lists: Option<Arc<[ListSpec]>>,
}

#[derive(Clone, Debug)]
struct NamedSet {
    backend: Backend,
    key_words: u8,
    /// Lifetime of elements that rules add.
    lifetime: Option<SimSpan>,
}

/// Rules that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The kernel would not load the table, or something of it is not modelled.
    #[error("table {table}: {why}")]
    Table {
        /// Its name.
        table: Arc<str>,
        /// What, and where.
        why: String,
    },
    /// An xtables rule that iptables-nft would translate.
    #[error(transparent)]
    Xtables(#[from] crate::kernel::xtables::CompileError),
}

/// How much a table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Chains, base chains included.
    pub chains: usize,
    /// Rules.
    pub rules: usize,
    /// Named and anonymous sets and maps.
    pub sets: usize,
    /// Their elements.
    pub elements: usize,
}

impl Engine {
    /// Compiles `table`; hash seeds follow from `seed`.
    ///
    /// # Errors
    /// If the kernel would not load the table, or it holds what is not modelled: see [`Table::validate`].
    pub fn new(table: &Table, seed: u64) -> Result<Self, EngineError> {
        Engine::with(table, seed, CompileOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// If the kernel would not load the table, or it holds what is not modelled and the options do not let it pass.
    pub fn with(table: &Table, seed: u64, options: CompileOptions) -> Result<Self, EngineError> {
        if options.allow_opaque {
            let (known, warnings) = table.without_opaque();
            let of_table = |what| Warning::Nftables { table: table.name.clone(), what };
            let warnings = warnings.into_iter().map(of_table).collect();
            return Ok(Engine { warnings, ..Engine::with(&known, seed, CompileOptions::default())? });
        }
        let refused = |why| EngineError::Table { table: table.name.clone(), why };
        table.validate().map_err(refused)?;
        let mut hooks = Vec::new();
        let mut engine = Engine::empty(table.family, seed);
        for set in &table.sets {
            engine.add_set(set);
        }
        for (id, chain) in table.chains.iter().enumerate() {
            engine.add_chain(&chain.name, &chain.rules);
            if let Some(b) = chain.base {
                Arc::make_mut(&mut engine.chains[id]).drops = b.drops;
                hooks.push(HookFn { hook: b.hook, priority: b.priority, kind: b.kind, id });
            }
            let structure = memory::chain_bytes(&chain.name, chain.base.is_some(), chain.comment.as_deref());
            engine.fixed_bytes += structure - memory::chain_bytes(&chain.name, false, None);
        }
        engine.hooks = hooks;
        Ok(engine)
    }

    /// Nothing yet.
    pub(super) fn empty(family: Family, seed: u64) -> Self {
        let (hooks, chains, codes, sets, places, warnings, lists) = Default::default();
        Engine { family, seed, hooks, chains, codes, sets, fixed_bytes: 0, places, warnings, lists }
    }

    /// Adds a chain that is laid out already, and its hook if it is a base chain.
    pub(super) fn push_chain(
        &mut self,
        name: &str,
        chain: CompiledChain,
        base: Option<(Hook, i32, ChainKind)>,
    ) -> ChainId {
        let id = self.chains.len();
        self.fixed_bytes += memory::chain_bytes(name, base.is_some(), None);
        self.chains.push(Arc::new(chain));
        self.hooks.extend(base.map(|(hook, priority, kind)| HookFn { hook, priority, kind, id }));
        ChainId(u32::try_from(id).expect("fewer than 2^32 chains"))
    }

    /// What of the rules is not run.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The base chains, in order of creation.
    pub fn hooks(&self) -> Vec<HookFn> {
        self.hooks.clone()
    }

    /// Runs base chain `id` over a packet, without session affinity: dynamic sets stay empty.
    pub fn run(&self, id: usize, cx: &mut PacketCx<'_>) -> HookVerdict {
        self.run_observed(id, cx, None, SimTime::ZERO, &mut ())
    }

    /// Runs base chain `id` over a packet at `now`, with the node's dynamic sets.
    pub fn run_at(
        &self,
        id: usize,
        cx: &mut PacketCx<'_>,
        dynamic: Option<&mut DynamicSets>,
        now: SimTime,
    ) -> HookVerdict {
        self.run_observed(id, cx, dynamic, now, &mut ())
    }

    /// The same, telling `observer` each step.
    pub fn run_observed<O: Observer>(
        &self,
        id: usize,
        cx: &mut PacketCx<'_>,
        mut dynamic: Option<&mut DynamicSets>,
        now: SimTime,
        observer: &mut O,
    ) -> HookVerdict {
        debug_assert_eq!(cx.packet.family(), self.family, "a packet of the other family");
        if let Some(lists) = &self.lists {
            cx.recent.bind(lists);
        }
        cx.work[Unit::NftChains] += 1;
        cx.work[Unit::NftChainsV6] += u32::from(self.family == Family::Ipv6);
        observer.step(Step::NftChain(ChainId(id as u32)), &cx.packet, cx.work);
        let mut regs = Regs::default();
        let mut stack = [(0u32, 0u32, 0u32); JUMP_STACK];
        let mut depth = 0;
        let mut current = id as u32;
        let mut chain: &CompiledChain = &self.chains[id];
        let mut code: &Code = &chain.code;
        let mut rule = 0u32;
        // What is counted here is moved to the packet's work at the end, or when somebody listens.
        let mut tally = Tally::default();
        let (mut rules, mut jumps) = (0u32, 0u32);
        // Last line of the blob that was read. The chain's structure is a line of its own.
        let mut seen = u32::MAX;
        let mut lines = 1u32;
        // Lines from here on are those of what a map named: one Service's own.
        let mut own_since: Option<u32> = None;
        // And from the second map on, its endpoint's.
        let mut endpoint_since: Option<u32> = None;
        let verdict = 'chains: loop {
            let mut decided = None;
            while let Some(at) = code.rules.get(rule as usize) {
                rule += 1;
                rules += 1;
                lines += u32::from(at.line != seen);
                let mut last = None;
                let mut flow = Flow::Continue;
                for placed in &code.exprs[at.first as usize..at.end as usize] {
                    last = Some(placed);
                    flow = self.step(&placed.expr, chain, &mut regs, cx, &mut dynamic, now);
                    if flow != Flow::Continue {
                        if matches!((flow, &placed.expr), (Flow::Verdict(_), Expr::Lookup(_))) {
                            match own_since {
                                None => own_since = Some(lines),
                                Some(_) => endpoint_since = Some(lines),
                            }
                        }
                        break;
                    }
                }
                seen = at.line;
                if let Some(placed) = last {
                    lines += placed.end_line - at.line;
                    seen = placed.end_line;
                    tally.add(placed.counted, at.end - at.first, cx.work);
                }
                if O::LISTENS {
                    tally.flush(cx.work);
                    cx.work[Unit::NftRules] += std::mem::take(&mut rules);
                    cx.work[Unit::NftJumps] += std::mem::take(&mut jumps);
                    let step = Step::NftRule { chain: ChainId(current), rule: rule - 1, flow };
                    observer.step(step, &cx.packet, cx.work);
                }
                match flow {
                    Flow::Continue | Flow::Break => {}
                    Flow::Verdict(v) => {
                        decided = Some(v);
                        break;
                    }
                    Flow::Reject => break 'chains HookVerdict::Reject,
                }
            }
            let to = match decided {
                Some(Verdict::Accept) => break HookVerdict::Accept,
                Some(Verdict::Drop) => break HookVerdict::Drop,
                Some(Verdict::Jump(to)) => {
                    if depth == JUMP_STACK {
                        break HookVerdict::Drop;
                    }
                    stack[depth] = (current, rule, seen);
                    depth += 1;
                    Some(to)
                }
                Some(Verdict::Goto(to)) => Some(to),
                Some(Verdict::Return) => None,
                None => {
                    lines += u32::from(code.end_line != seen);
                    None
                }
            };
            if let Some(to) = to {
                jumps += 1;
                (current, rule, seen) = (to.0, 0, u32::MAX);
                lines += 1;
            } else {
                if depth == 0 {
                    // Only a base chain that no other jumps to is left here, so that its policy is its own.
                    break if self.chains[id].drops { HookVerdict::Drop } else { HookVerdict::Accept };
                }
                depth -= 1;
                cx.work[Unit::LinesOwn] += own_since.take().map_or(0, |since| lines - since);
                cx.work[Unit::LinesEndpoint] += endpoint_since.take().map_or(0, |since| lines - since);
                cx.work[Unit::Returns] += 1;
                (current, rule, seen) = stack[depth];
            }
            chain = &self.chains[current as usize];
            code = &chain.code;
        };
        tally.flush(cx.work);
        cx.work[Unit::NftRules] += rules;
        cx.work[Unit::NftJumps] += jumps;
        cx.work[Unit::LinesChase] += lines;
        cx.work[Unit::LinesOwn] += own_since.map_or(0, |since| lines - since);
        cx.work[Unit::LinesEndpoint] += endpoint_since.map_or(0, |since| lines - since);
        verdict
    }

    #[inline(always)]
    fn step(
        &self,
        expr: &Expr,
        chain: &CompiledChain,
        regs: &mut Regs,
        cx: &mut PacketCx<'_>,
        dynamic: &mut Option<&mut DynamicSets>,
        now: SimTime,
    ) -> Flow {
        match expr {
            Expr::Payload(e) => return e.eval(regs, cx),
            Expr::Cmp(e) => return e.eval(regs, cx),
            Expr::Meta(e) => return e.eval(regs, cx),
            Expr::Bitwise(e) => e.eval(regs, cx),
            Expr::Lookup(e) => return self.lookup(e, chain, regs, cx, dynamic, now),
            Expr::Immediate(e) => return e.eval(regs),
            Expr::Ct(e) => return e.eval(regs, cx),
            Expr::Counter(_) => {}
            other => return self.rare(other, regs, cx, dynamic, now),
        }
        Flow::Continue
    }

    /// The expressions that few rules have.
    #[inline(never)]
    fn rare(
        &self,
        expr: &Expr,
        regs: &mut Regs,
        cx: &mut PacketCx<'_>,
        dynamic: &mut Option<&mut DynamicSets>,
        now: SimTime,
    ) -> Flow {
        match expr {
            Expr::Numgen(e) => return e.eval(regs, cx, dynamic.as_deref_mut()),
            Expr::Nat(e) => return e.eval(regs, cx),
            Expr::Masq(e) => return e.eval(cx),
            Expr::Fib(e) => e.eval(regs, cx),
            Expr::CtSetMark(e) => e.eval(regs, cx),
            Expr::Reject(e) => return e.eval(cx),
            Expr::Range(e) => return e.eval(regs),
            Expr::Log(e) => e.eval(cx),
            Expr::Limit(e) => return e.eval(cx, dynamic.as_deref_mut()),
            Expr::XtMatch(e) => return e.eval(cx),
            Expr::XtTarget(e) => return e.eval(cx),
            Expr::Dynset(e) => {
                cx.work[Unit::NftDynset] += 1;
                let set = &self.sets[e.set as usize];
                let lifetime = set.lifetime.expect("a rule updates only sets with a timeout");
                let key = &regs.0[usize::from(e.sreg)..][..usize::from(set.key_words)];
                let added = match dynamic {
                    Some(d) => d.update(e.set, key, lifetime, now, cx.work),
                    None => true,
                };
                return if added { Flow::Continue } else { Flow::Break };
            }
            Expr::Payload(_)
            | Expr::Cmp(_)
            | Expr::Meta(_)
            | Expr::Bitwise(_)
            | Expr::Lookup(_)
            | Expr::Immediate(_)
            | Expr::Ct(_)
            | Expr::Counter(_) => unreachable!("run where it stands"),
        }
        Flow::Continue
    }

    #[inline]
    fn lookup(
        &self,
        e: &Lookup,
        chain: &CompiledChain,
        regs: &mut Regs,
        cx: &mut PacketCx<'_>,
        dynamic: &mut Option<&mut DynamicSets>,
        now: SimTime,
    ) -> Flow {
        let backend = match e.set {
            SetRef::Anonymous(at) => &chain.anonymous[at as usize],
            SetRef::Named(id) => {
                let set = &*self.sets[id as usize];
                if let (Some(d), true) = (dynamic.as_mut(), set.lifetime.is_some()) {
                    let key = &regs.0[usize::from(e.sreg)..][..usize::from(set.key_words)];
                    let found = d.lookup(id, key, now, cx.work).then_some(Found::Member);
                    return e.finish(found, regs);
                }
                &set.backend
            }
        };
        let before = cx.work[Unit::LinesChase];
        let found = backend.lookup(regs, e.sreg, cx.work);
        if found.is_some() {
            let lines = cx.work[Unit::LinesChase] - before;
            cx.work[Unit::LinesOwn] += lines;
            if matches!(e.set, SetRef::Anonymous(_)) {
                cx.work[Unit::LinesEndpoint] += lines;
            }
        }
        e.finish(found, regs)
    }

    /// The same for an engine of [`Engine::from_xtables`], telling the steps as those of the xtables rules.
    pub fn run_as_xtables(
        &self,
        id: usize,
        cx: &mut PacketCx<'_>,
        dynamic: Option<&mut DynamicSets>,
        now: SimTime,
        observer: &mut impl Observer,
    ) -> HookVerdict {
        let mut steps = XtSteps::new(observer, &self.places);
        let verdict = self.run_observed(id, cx, dynamic, now, &mut steps);
        steps.finish();
        verdict
    }

    /// Chains and named sets held.
    pub(crate) fn extent(&self) -> (usize, usize) {
        (self.chains.len(), self.sets.len())
    }

    /// Adds a chain behind the others, as a new chain of the table.
    pub fn add_chain(&mut self, name: &str, rules: &[Rule]) -> ChainId {
        let id = u32::try_from(self.chains.len()).expect("fewer than 2^32 chains");
        self.fixed_bytes += memory::chain_bytes(name, false, None);
        let compiled = CompiledChain::new(rules, self.family, self.seed, id, &mut self.codes);
        self.chains.push(Arc::new(compiled));
        ChainId(id)
    }

    /// Puts new rules into a chain; nothing else is recompiled.
    pub fn replace_chain(&mut self, chain: ChainId, rules: &[Rule]) {
        let mut compiled = CompiledChain::new(rules, self.family, self.seed, chain.0, &mut self.codes);
        compiled.drops = self.chains[chain.0 as usize].drops;
        self.chains[chain.0 as usize] = Arc::new(compiled);
    }

    /// Adds a set or map behind the others, as a new set of the table.
    pub fn add_set(&mut self, set: &super::Set) -> SetId {
        let id = u32::try_from(self.sets.len()).expect("fewer than 2^32 sets");
        let words = super::set::key_bytes(&set.key, self.family).div_ceil(4);
        self.fixed_bytes += u64::from(memory::text_bytes(&set.name));
        self.sets.push(Arc::new(NamedSet {
            backend: Backend::named(set, self.family, derive_seed(self.seed, u64::from(id))),
            key_words: u8::try_from(words).expect("a key fits the registers"),
            lifetime: set.timeout_seconds.map(|s| SimSpan::from_secs(u64::from(s))),
        }));
        SetId(id)
    }

    /// Gives a set that rules update another lifetime: that of elements they add from now on
    /// (`net/netfilter/nf_tables_api.c:nf_tables_newset` of a set that is there; kernels since 6.2).
    pub fn set_lifetime(&mut self, set: SetId, lifetime: SimSpan) {
        Arc::make_mut(&mut self.sets[set.0 as usize]).lifetime = Some(lifetime);
    }

    /// Adds an element to a named set or map, or changes its verdict.
    pub fn insert_element(&mut self, set: SetId, key: &Key, verdict: Option<Verdict>) {
        let words = key_words(key);
        match &mut Arc::make_mut(&mut self.sets[set.0 as usize]).backend {
            Backend::Rhash(t) => {
                t.insert(&words, verdict);
            }
            Backend::Bitmap(b) => b.insert(words[0]),
            other => panic!("elements cannot be added to {other:?}"),
        }
    }

    /// Removes an element from a named set or map. False if it is not there.
    pub fn remove_element(&mut self, set: SetId, key: &Key) -> bool {
        let words = key_words(key);
        match &mut Arc::make_mut(&mut self.sets[set.0 as usize]).backend {
            Backend::Rhash(t) => t.remove(&words),
            Backend::Bitmap(b) => b.remove(words[0]),
            other => panic!("elements cannot be removed from {other:?}"),
        }
    }

    /// Chains, rules, sets and elements held.
    pub fn counts(&self) -> Counts {
        let anonymous = || self.chains.iter().flat_map(|c| &c.anonymous);
        Counts {
            chains: self.chains.len(),
            rules: self.chains.iter().map(|c| c.code.rules.len()).sum(),
            sets: self.sets.len() + anonymous().count(),
            elements: self.sets.iter().map(|s| s.backend.len()).sum::<usize>()
                + anonymous().map(Backend::len).sum::<usize>(),
        }
    }

    /// Kernel memory of the table in bytes, by slab class.
    pub fn memory_bytes(&self) -> u64 {
        let chain = |c: &CompiledChain| {
            c.rule_bytes
                + u64::from(super::set::slab_class(c.blob_bytes))
                + c.anonymous.iter().map(Backend::memory_bytes).sum::<u64>()
        };
        let chains: u64 = self.chains.iter().map(|c| chain(c)).sum();
        let sets: u64 = self.sets.iter().map(|s| s.backend.memory_bytes()).sum();
        self.fixed_bytes + chains + sets
    }
}
