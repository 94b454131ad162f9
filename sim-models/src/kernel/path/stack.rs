//! [`Stack`]: the rules of one node compiled, and the functions that they put at each hook, in order of priority.
//!
//! Priorities are those of `include/uapi/linux/netfilter_ipv4.h` and `include/net/ip_vs.h`:
//!
//! | priority | function | at |
//! |---|---|---|
//! | -400 | defragmentation | PREROUTING, OUTPUT |
//! | -300, -150, 0, 50 | tables raw, mangle, filter, security, and chains of nftables at theirs | where they have chains |
//! | -200 | conntrack | PREROUTING, OUTPUT |
//! | -100 | NAT of the destination | PREROUTING, OUTPUT |
//! | -98 | IPVS (the hooks at -99 and -98) | OUTPUT |
//! | 99 | IPVS (98 and 99) | INPUT |
//! | 100 | NAT of the source | INPUT, POSTROUTING |
//! | 100 | IPVS, for answers | FORWARD |
//! | last | confirmation | INPUT, POSTROUTING |
//!
//! Conntrack and with it defragmentation, NAT and confirmation are there only where something needs them
//! ([`NodeRules::need_conntrack`]). A nat table
//! without such a rule costs nothing: its chains are called by NAT, which has no connection to translate. IPVS is
//! there with its first service. Tables and chains of type nat are called by NAT, for first packets only.

use crate::config::XtablesBackend;
use crate::kernel::hook::{ChainKind, Hook, HookFn};
use crate::kernel::ipset::IpSets;
use crate::kernel::ipvs::Services;
use crate::kernel::options::{CompileOptions, Warning};
use crate::kernel::portal::Portal;
use crate::kernel::rules::NodeRules;
use crate::kernel::{ebpf, ipvs, nftables, xtables};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Rules that a kernel would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    /// xtables.
    #[error(transparent)]
    Xtables(#[from] xtables::CompileError),
    /// nf_tables.
    #[error(transparent)]
    Nftables(#[from] nftables::EngineError),
    /// IPVS.
    #[error(transparent)]
    Ipvs(#[from] ipvs::ServiceError),
}

/// Compiled rules, sets and services. They do not change from packet to packet, and nodes with equal rules share
/// one of these.
#[derive(Clone)]
pub struct Stack {
    pub(super) xtables: xtables::Compiled,
    /// The same tables where iptables-nft wrote them; those of iptables-legacy are then empty.
    pub(super) xtables_nft: Option<nftables::Engine>,
    pub(super) nftables: Option<nftables::Engine>,
    pub(super) ipvs: Services,
    pub(super) sets: IpSets,
    pub(super) dummy_addrs: BTreeSet<IpAddr>,
    /// Maps that sockets and devices look into before any hook.
    pub(super) ebpf: Option<ebpf::engine::Engine>,
    /// Ports of a proxy in user space, by protocol and number.
    pub(super) portals: BTreeMap<(u8, u16), Portal>,
    /// Functions by hook, in order of priority.
    pub(super) hooks: [Vec<Placed>; 5],
    /// What NAT calls for first packets, by hook.
    pub(super) nat: [Vec<(Mechanism, usize)>; 5],
    tracks: bool,
    pub(super) translates: bool,
}

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    Xtables,
    /// xtables rules in nf_tables.
    XtablesNft,
    Nftables,
}

/// A function at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Defragment,
    Track,
    Rules(Mechanism, usize),
    Translate,
    IpvsRequest,
    IpvsAnswer,
    Confirm,
}

/// A function with its priority.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) priority: i32,
    pub(super) function: Function,
}

/// What a hook calls, for lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Order among the hook's functions.
    pub priority: i32,
    /// What it is: `conntrack`, `nat`, `iptables`, ...
    pub name: &'static str,
}

const TABLE_PRIORITY_MANGLE: i32 = -150;

impl Stack {
    /// Compiles rules; `seed` gives hash tables their seeds.
    ///
    /// # Errors
    /// If a rule refers to a set that is not there, or a virtual server is one that IPVS refuses.
    pub fn new(rules: &NodeRules, seed: u64) -> Result<Self, StackError> {
        Stack::with(rules, seed, CompileOptions::default())
    }

    /// The same with options; [`Stack::warnings`] tells what they let through.
    ///
    /// # Errors
    /// As of [`Stack::new`].
    pub fn with(rules: &NodeRules, seed: u64, options: CompileOptions) -> Result<Self, StackError> {
        let sets = IpSets::new(&rules.ipsets, seed as u32);
        let (legacy, in_nft): (&[xtables::Table], _) = match rules.xtables_backend {
            XtablesBackend::Legacy => (&rules.xtables, None),
            XtablesBackend::Nft => (&[], Some(&rules.xtables)),
        };
        let xtables = xtables::Compiled::with(legacy, &sets, options)?;
        let of_xtables = |tables| nftables::Engine::from_xtables(tables, &sets, seed, options);
        let xtables_nft = in_nft.map(|tables| of_xtables(tables)).transpose()?;
        let of_table = |table| nftables::Engine::with(table, seed, options);
        let nftables = rules.nftables.as_ref().map(of_table).transpose()?;
        let of_nft = nftables.iter().flat_map(nftables::Engine::hooks).map(|h| (Mechanism::Nftables, h));
        let mut of_rules: Vec<(Mechanism, HookFn)> =
            xtables.hooks().into_iter().map(|h| (Mechanism::Xtables, h)).collect();
        let of_xtables_nft = xtables_nft.iter().flat_map(nftables::Engine::hooks);
        of_rules.extend(of_xtables_nft.map(|h| (Mechanism::XtablesNft, h)).chain(of_nft));
        of_rules.sort_by_key(|(_, h)| h.priority);
        let tracks = rules.need_conntrack();
        let translates = tracks && of_rules.iter().any(|(_, h)| h.kind == ChainKind::Nat);
        let (mut hooks, mut nat): ([Vec<Placed>; 5], [Vec<_>; 5]) = Default::default();
        for (mechanism, h) in of_rules {
            match h.kind {
                ChainKind::Filter => hooks[h.hook as usize]
                    .push(Placed { priority: h.priority, function: Function::Rules(mechanism, h.id) }),
                ChainKind::Nat => nat[h.hook as usize].push((mechanism, h.id)),
            }
        }
        for (hook, priority, function) in own_functions(tracks, translates, !rules.ipvs.is_empty()) {
            let list = &mut hooks[hook as usize];
            // Before what others have put at the same priority.
            let at = list.partition_point(|p| p.priority < priority);
            list.insert(at, Placed { priority, function });
        }
        let dummy_addrs = rules.dummy_addrs.iter().copied().collect();
        let ipvs = Services::of_rules(rules, seed)?;
        let ebpf = rules.service_map.as_ref();
        let ebpf =
            ebpf.map(|map| ebpf::engine::Engine::new(map, ebpf::engine::Algorithm::default(), seed as u32));
        let portals = rules.portals.iter().map(|p| ((p.proto.number(), p.port), p.clone())).collect();
        Ok(Stack {
            xtables,
            xtables_nft,
            nftables,
            ipvs,
            sets,
            dummy_addrs,
            ebpf,
            portals,
            hooks,
            nat,
            tracks,
            translates,
        })
    }

    /// The tables of iptables-legacy.
    pub fn xtables(&self) -> &xtables::Compiled {
        &self.xtables
    }

    /// The same, for changes in place that neither add to the hooks nor take from them.
    pub fn xtables_mut(&mut self) -> &mut xtables::Compiled {
        &mut self.xtables
    }

    /// Kernel memory of rules, sets and services on a machine with `cpus` CPUs.
    pub fn memory_bytes(&self, cpus: u64) -> u64 {
        self.xtables.memory_bytes(cpus)
            + self.xtables_nft.as_ref().map_or(0, nftables::Engine::memory_bytes)
            + self.nftables.as_ref().map_or(0, nftables::Engine::memory_bytes)
            + self.ipvs.memory_bytes(cpus)
            + self.sets.memory_bytes()
            + self.ebpf.as_ref().map_or(0, ebpf::engine::Engine::memory_bytes)
    }

    /// Whether anything is registered at the hook, be it a NAT chain that has nothing to do.
    pub(super) fn is_active(&self, hook: Hook) -> bool {
        !self.hooks[hook as usize].is_empty() || !self.nat[hook as usize].is_empty()
    }

    /// Rules that decide nothing because they are not known; none unless options allow it.
    pub fn warnings(&self) -> Vec<Warning> {
        let xtables = self.xtables.warnings().iter().cloned().map(Warning::Xtables);
        let engines = self.xtables_nft.iter().chain(&self.nftables);
        xtables.chain(engines.flat_map(|engine| engine.warnings().iter().cloned())).collect()
    }

    /// The IPVS services, for what follows their changes.
    pub fn ipvs(&self) -> &Services {
        &self.ipvs
    }

    /// Whether some rule makes the kernel track connections.
    pub fn tracks(&self) -> bool {
        self.tracks
    }

    /// What `hook` calls, in order.
    pub fn functions(&self, hook: Hook) -> Vec<Listed> {
        let name = |function| match function {
            Function::Defragment => "defrag",
            Function::Track => "conntrack",
            Function::Rules(Mechanism::Xtables | Mechanism::XtablesNft, _) => "iptables",
            Function::Rules(Mechanism::Nftables, _) => "nftables",
            Function::Translate => "nat",
            Function::IpvsRequest | Function::IpvsAnswer => "ipvs",
            Function::Confirm => "confirm",
        };
        let listed = |p: &Placed| Listed { priority: p.priority, name: name(p.function) };
        self.hooks[hook as usize].iter().map(listed).collect()
    }
}

impl Placed {
    /// Whether the packet is routed anew if this function changes its mark on output (`ipt_mangle_out`).
    pub(super) fn reroutes_on_mark(self) -> bool {
        self.priority == TABLE_PRIORITY_MANGLE
            && matches!(self.function, Function::Rules(Mechanism::Xtables, _))
    }
}

/// Functions that are not rules.
fn own_functions(tracks: bool, translates: bool, has_ipvs: bool) -> Vec<(Hook, i32, Function)> {
    let mut all = Vec::new();
    if tracks {
        for hook in [Hook::Prerouting, Hook::Output] {
            all.extend([(hook, -400, Function::Defragment), (hook, -200, Function::Track)]);
        }
        for hook in [Hook::Input, Hook::Postrouting] {
            all.push((hook, i32::MAX, Function::Confirm));
        }
    }
    if translates {
        for hook in [Hook::Prerouting, Hook::Output] {
            all.push((hook, -100, Function::Translate));
        }
        for hook in [Hook::Input, Hook::Postrouting] {
            all.push((hook, 100, Function::Translate));
        }
    }
    if has_ipvs {
        all.extend([
            (Hook::Input, 99, Function::IpvsRequest),
            (Hook::Output, -98, Function::IpvsRequest),
            (Hook::Forward, 100, Function::IpvsAnswer),
        ]);
    }
    all
}
