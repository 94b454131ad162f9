//! What a sync of kube-proxy does, counted, and what it costs.
//!
//! A mode fills a [`SyncWork`] from the sizes of what is written, read and replaced; a profile prices each unit, in
//! microseconds or thousands of instructions. Prices of whole syncs (`[sync.*]`) are fitted on whole syncs of the
//! real kube-proxy, those of a tool run by hand (`[tool.*]`) on the tools alone ([`tool`]). How much of what the tools
//! do is the law of the tool and of the kernel: [`xtables`], [`xtables_nft`], [`nft`], [`ipvs`].
//!
//! Each unit belongs to kube-proxy or to a tool, is work or waiting, and comes before or after the instant at which packets
//! meet the new rules. From that a [`SyncCost`] has its parts.
//!
//! Left out: waiting for the xtables lock and min-sync-period, which are the sync loop's; retries.

pub mod ipvs;
pub mod memory;
pub mod nft;
mod shape;
pub mod tool;
pub mod xtables;
pub mod xtables_nft;

pub use shape::{Size, SyncKind, SyncShape};

use crate::kernel::cost::CostProfile;
use sim_core::classify::Family;
use sim_core::units::SimSpan;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Add, AddAssign};

/// Who spends a unit's time, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// kube-proxy itself, before the rules are live.
    Own,
    /// A tool and the kernel under it, before the rules are live.
    Tool,
    /// The same while it holds the xtables lock.
    Locked,
    /// The same, holding the lock, when the rules are already live.
    LockedAfter,
    /// Nobody: the kernel waits, before the rules are live.
    Wait,
    /// The same when they are.
    WaitAfter,
}

macro_rules! sync_units {
    ($($(#[doc = $doc:literal])+ $part:ident $field:ident,)+) => {
        /// Counters of one sync, or of one run of a tool.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct SyncWork { $($(#[doc = $doc])+ pub $field: u64,)+ }

        impl SyncWork {
            /// (name, part, count) of every unit; profiles price them under `sync.<name>` and `tool.<name>`.
            pub fn units(&self) -> Vec<(&'static str, Part, u64)> {
                vec![$((stringify!($field), Part::$part, self.$field),)+]
            }
            /// Names of all units.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($field),)+];
        }

        impl AddAssign for SyncWork {
            fn add_assign(&mut self, other: SyncWork) { $(self.$field += other.$field;)+ }
        }
    };
}

sync_units! {
    /// Syncs: what kube-proxy does in each, whatever its size (`syncProxyRules`).
    Own syncs,
    /// Transactions that kube-proxy puts together for nft (knftables `NewTransaction`, `Run`).
    Own transactions,
    /// Changes that reach an idle kube-proxy over its watch and start a sync.
    Own deliveries,
    /// Service ports that kube-proxy goes through.
    Own service_ports,
    /// Lines of rules that kube-proxy composes for iptables-restore.
    Own composed_rules,
    /// Endpoints that kube-proxy composes into nftables maps.
    Own composed_elements,
    /// Chains that kube-proxy finds in the output of iptables-save (`GetChainsFromTable`).
    Own parsed_chains,
    /// Objects and elements that kube-proxy reads in nft's JSON (knftables `List`).
    Own parsed_objects,

    /// Runs of programs of the iptables family.
    Tool execs,
    /// Extensions that a program of the iptables family loads (`xtables_find_match`: dlopen).
    Locked modules,
    /// Loads of the statistic match's, which brings the mathematical library.
    Locked statistic_modules,
    /// Rules written to iptables-restore, which parses them and looks their extensions up.
    Locked restore_rules,
    /// Matches in them (`xtables_find_match`, a copy and a parse each).
    Locked restore_matches,
    /// Statistic matches in them, whose probability is a decimal number.
    Locked restore_statistics,
    /// Recent matches in them, of several options.
    Locked restore_recents,
    /// Ports in them that go through the name service: of UDP and SCTP (libxtables `xtables_getportbyname`).
    Locked restore_port_names,
    /// Chain names compared by look-ups and sorted insertions (libiptc `iptcc_find_label`, `iptc_insert_chain`).
    Locked chain_steps,
    /// Rules taken out of chains that are written anew (libiptc `iptc_flush_entries`).
    Locked flushed_rules,
    /// Rules of the table that the tool fetches and parses (libiptc `parse_table`).
    Locked read_rules,
    /// Rules of the table that the tool compiles and the kernel checks (`translate_table`).
    Locked replaced_rules,
    /// Matches in them, each looked up by name and checked (`find_check_match`).
    Locked replaced_matches,
    /// Rules read or replaced in a table that is beyond the caches.
    Locked far_rules,
    /// Rules of the old table, released after the swap, and their counters fetched (`__do_replace`).
    LockedAfter freed_rules,
    /// Runs of iptables-save.
    Tool save_execs,
    /// Rules that iptables-save prints.
    Tool saved_rules,
    /// Matches in them.
    Tool saved_matches,
    /// Rules that iptables-save prints of a table that is beyond the caches.
    Tool far_saved_rules,

    /// Rules written to iptables-nft-restore.
    Tool xn_rules,
    /// Matches in them; most go through nft_compat.
    Tool xn_matches,
    /// Chains that iptables-nft caches before it changes a table.
    Tool xn_cached_chains,
    /// Chains passed while declared ones find their place in its list (iptables-nft `nft_chain_list`, in order of names).
    Tool xn_sort_steps,
    /// Those of a list beyond the second-level cache.
    Tool xn_far_sort_steps,
    /// Pairs of rules of one chain that is written anew, for what grows faster than it.
    Tool xn_rule_pairs,
    /// Rules that iptables-nft-save prints.
    Tool xn_saved_rules,

    /// Runs of nft.
    Tool nft_execs,
    /// Chains of a transaction.
    Tool nft_chains,
    /// Rules of a transaction.
    Tool nft_rules,
    /// Anonymous sets and maps of a transaction.
    Tool nft_sets,
    /// Elements of named sets and maps in a transaction, a command each.
    Tool nft_elements,
    /// Elements of anonymous sets and maps in a transaction.
    Tool nft_anonymous_elements,
    /// Entries of the commit list that binding anonymous sets walks past (`__nft_set_trans_bind`).
    Tool nft_trans_steps,
    /// Entries that are elements of anonymous sets, one each before 6.14; later kernels put them together.
    Tool nft_trans_element_steps,
    /// Sets of the table that naming an anonymous set walks past (`nf_tables_set_alloc_name`).
    Tool nft_name_steps,
    /// Steps of both kinds over lists beyond the second-level cache.
    Tool nft_far_steps,
    /// Chains that nft caches before a transaction (`nft_cache_update`).
    Tool nft_cached_chains,
    /// Sets that it caches.
    Tool nft_cached_sets,
    /// Chains and sets that it caches or lists where they are beyond the caches.
    Tool nft_far_objects,
    /// Rules of the table that nft lists in JSON, with what belongs to them.
    Tool nft_json_rules,
    /// Anonymous sets and maps that it lists in JSON, each asked for.
    Tool nft_json_sets,
    /// Elements that it lists in JSON.
    Tool nft_json_elements,
    /// Rules of the table that nft lists as text, with what belongs to them.
    Tool nft_listed_rules,
    /// Chains of the table that nft lists.
    Tool nft_listed_chains,
    /// Elements that it lists as text.
    Tool nft_listed_elements,
    /// Sets that the kernel walks past to find each anonymous set whose elements are listed (`nft_set_lookup`).
    Tool nft_list_steps,
    /// Those of a list beyond the second-level cache.
    Tool nft_far_list_steps,
    /// Waits for an RCU grace period, before the rules are live: iptables-nft's next table waits until the rules removed
    /// by the one before are destroyed (`nft_compat_wait_for_destructors`).
    Wait grace_periods,
    /// The same when they are live: the socket of a transaction that removed rules or base chains closes
    /// (`nft_rcv_nl_event`).
    WaitAfter grace_periods_after,

    /// Runs of ipset.
    Tool ipset_execs,
    /// Entries added to ipsets.
    Tool ipset_entries,
    /// Runs of ipvsadm.
    Tool ipvsadm_execs,
    /// Virtual servers added, changed or removed.
    Tool ipvs_servers,
    /// Real servers added, changed or removed.
    Tool ipvs_destinations,
    /// Buckets of a hash-table scheduler filled anew for each (`ip_vs_sh`, `ip_vs_dh`, `ip_vs_mh`).
    Tool ipvs_buckets,
    /// Virtual and real servers listed.
    Tool ipvs_listed,
    /// Netlink requests that read a virtual server or its real servers.
    Tool netlink_requests,
    /// Runs of ip.
    Tool ip_execs,
    /// Addresses added to kube-ipvs0.
    Tool address_adds,
    /// Addresses of the device that adding one walks past (`__inet_insert_ifa`).
    Tool address_steps,
    /// Addresses listed.
    Tool addresses_listed,
}

impl Add for SyncWork {
    type Output = SyncWork;
    fn add(mut self, other: SyncWork) -> SyncWork {
        self += other;
        self
    }
}

/// What a sync takes on its node, undisturbed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCost {
    /// From its start to its end.
    pub wall: SimSpan,
    /// From its start to the instant from which packets meet the new rules.
    pub live: SimSpan,
    /// Processor time of kube-proxy itself.
    pub own_cpu: SimSpan,
    /// Processor time of the tools it runs, the kernel's part included.
    pub tools_cpu: SimSpan,
    /// Time for which it holds the xtables lock; nothing in nftables mode.
    pub locked: SimSpan,
}

/// Time by part, in thousands of the profile's unit: microseconds, or thousands of instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts([f64; 6]);

impl Parts {
    fn sum(&self, parts: &[Part]) -> f64 {
        parts.iter().map(|&part| self.0[part as usize]).sum()
    }
    /// From start to end.
    pub fn wall(&self) -> f64 {
        self.0.iter().sum()
    }
    /// From the start until the rules are live.
    pub fn live(&self) -> f64 {
        self.sum(&[Part::Own, Part::Tool, Part::Locked, Part::Wait])
    }
    /// Processor time of kube-proxy.
    pub fn own_cpu(&self) -> f64 {
        self.sum(&[Part::Own])
    }
    /// Processor time of its tools.
    pub fn tools_cpu(&self) -> f64 {
        self.sum(&[Part::Tool, Part::Locked, Part::LockedAfter])
    }
    /// With the xtables lock held.
    pub fn locked(&self) -> f64 {
        self.sum(&[Part::Locked, Part::LockedAfter])
    }
}

impl SyncWork {
    /// Time by part, with the prices that `price` gives by name.
    pub fn parts(&self, price: impl Fn(&str) -> f64) -> Parts {
        let mut parts = Parts::default();
        for (name, part, n) in self.units() {
            if n > 0 {
                parts.0[part as usize] += n as f64 * price(name);
            }
        }
        parts
    }

    /// What the sync costs, or `None` if the profile prices no syncs.
    pub fn cost(&self, profile: &CostProfile) -> Option<SyncCost> {
        if !profile.has_sync() {
            return None;
        }
        let parts = self.parts(|name| profile.sync_price(name));
        let span = |thousands: f64| SimSpan::from_ns_f64(thousands * 1000.0 * profile.ns_per_unit);
        Some(SyncCost {
            wall: span(parts.wall()),
            live: span(parts.live()),
            own_cpu: span(parts.own_cpu()),
            tools_cpu: span(parts.tools_cpu()),
            locked: span(parts.locked()),
        })
    }

    /// How long the sync takes, or `None` if the profile prices no syncs.
    pub fn time(&self, profile: &CostProfile) -> Option<SimSpan> {
        Some(self.cost(profile)?.wall)
    }
}

/// Bytes of list that a core's second-level cache begins, and ceases, to hold: sets of it fill unevenly, and the rest of
/// the work takes room. What is longer is fetched from further away in each walk.
const SECOND_LEVEL: (f64, f64) = (1_048_576.0, 2_097_152.0);

/// Bytes that are gone through once from which copies of them begin to leave the caches, and from which none is left in
/// them: what a shared cache holds for one core of a large machine.
const SHARED: (f64, f64) = (4_194_304.0, 33_554_432.0);

/// Of `n` things in so many bytes, those beyond the caches.
fn far_things(n: u64, bytes: f64) -> u64 {
    let (low, high) = SHARED;
    (n as f64 * ((bytes - low) / (high - low)).clamp(0.0, 1.0)).round() as u64
}

/// Of `steps` along a list of constant length, those beyond the second-level cache.
fn far_steps(steps: u64, bytes: f64) -> u64 {
    let (low, high) = SECOND_LEVEL;
    (steps as f64 * ((bytes - low) / (high - low)).clamp(0.0, 1.0)).round() as u64
}

/// Of `steps` along a list that grows from nothing to `bytes` and is walked whole for each piece added, those beyond
/// the second-level cache: the integral of length times share, over that of length.
fn far_steps_of_growing(steps: u64, bytes: f64) -> u64 {
    let (low, high) = SECOND_LEVEL;
    if bytes <= low {
        return 0;
    }
    let to = bytes.min(high);
    let spilling = ((to.powi(3) - low.powi(3)) / 3.0 - low * (to * to - low * low) / 2.0) / (high - low);
    let beyond = (bytes * bytes - high * high).max(0.0) / 2.0;
    (steps as f64 * (spilling + beyond) / (bytes * bytes / 2.0)).round() as u64
}

/// Stands for the address of a node when the rules of a port are sized: inside no source range.
pub(in crate::proxy) fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Pairs among `n`.
fn pairs(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_of_a_growing_list_are_far_where_each_of_them_is() {
        for n in [500u64, 1_500, 2_500, 9_000] {
            let bytes = |i: u64| (i * 1_000) as f64;
            let each: u64 = (0..n).map(|i| far_steps(i * 1_000, bytes(i))).sum();
            let law = far_steps_of_growing(pairs(n) * 1_000, bytes(n));
            assert!(law.abs_diff(each) as f64 <= 0.002 * each as f64 + 1.0, "{n}: {law} and {each}");
        }
    }

    #[test]
    fn live_comes_before_the_end_by_what_is_released_and_awaited_after_it() {
        let work = SyncWork {
            syncs: 1,
            restore_rules: 10,
            freed_rules: 5,
            grace_periods_after: 1,
            saved_rules: 3,
            ..SyncWork::default()
        };
        let parts = work.parts(|_| 1.0);
        assert_eq!((parts.wall(), parts.live()), (20.0, 14.0));
        assert_eq!((parts.own_cpu(), parts.tools_cpu(), parts.locked()), (1.0, 18.0, 15.0));
    }
}
