//! Exact work: named integer counters, added and never averaged.
//!
//! A lookup adds to [`Work`] what the kernel would really have done: rules evaluated, matches called by kind,
//! hash probes, chain steps, cache lines. Only a cost model turns it into time. Every counter is one
//! [`Unit`]; profiles price units by their name.

use std::fmt;
use std::ops::{AddAssign, Index, IndexMut};

macro_rules! units {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// One kind of work. The name is what profiles, records and `explain` call it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum Unit { $($(#[doc = $doc])+ $variant,)+ }

        impl Unit {
            /// Every unit, in order of declaration.
            pub const ALL: &'static [Unit] = &[$(Unit::$variant,)+];
            /// How many units there are.
            pub const COUNT: usize = Unit::ALL.len();
            /// The unit's name in files.
            pub fn name(self) -> &'static str {
                match self { $(Unit::$variant => $name,)+ }
            }
            /// What one of it is.
            pub fn describe(self) -> &'static str {
                match self { $(Unit::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

units! {
    /// A packet forwarded from one device to another: receive, route, transmit, no hook work.
    PathForward = "path_forward",
    /// A packet made on this node and sent out.
    PathOutput = "path_output",
    /// A packet delivered to this node.
    PathInput = "path_input",
    /// A conntrack lookup: one tuple hashed, one bucket walked.
    CtLookup = "ct_lookup",
    /// A new conntrack entry: allocation, set-up, confirmation with both hashes and the duplicate check.
    CtNew = "ct_new",
    /// An entry compared in a conntrack bucket.
    CtChainSteps = "ct_chain_steps",
    /// A page of conntrack entries taken from the page allocator (one entry in sixteen).
    CtSlabPages = "ct_slab_pages",
    /// A NAT hook run for the first packet of a connection.
    NatHookNew = "nat_hook_new",
    /// A NAT hook run for a later packet.
    NatHookEst = "nat_hook_est",
    /// A destination binding set up.
    NatDnat = "nat_dnat",
    /// A source binding to an address of the node set up (masquerade).
    NatMasquerade = "nat_masquerade",
    /// A null binding set up because no rule chose one.
    NatNull = "nat_null",
    /// A tuple looked up to see whether it is free.
    NatTupleProbes = "nat_tuple_probes",
    /// A header rewritten by an existing binding.
    NatMangle = "nat_mangle",
    /// A packet routed again because its destination or mark changed on output.
    Reroutes = "reroutes",
    /// One xtables table entered at one hook.
    TableWalks = "table_walks",
    /// An xtables rule evaluated, matching or not.
    RuleEvals = "rule_evals",
    /// An xtables rule whose addresses, interfaces and protocol all fitted.
    RuleIpHits = "rule_ip_hits",
    /// An xtables rule that matched whole: its counter is incremented and its target runs.
    RuleHits = "rule_hits",
    /// Calls of the comment match.
    MatchComment = "match_comment",
    /// Calls of the tcp, udp or sctp match.
    MatchPorts = "match_ports",
    /// Calls of the statistic match.
    MatchStatistic = "match_statistic",
    /// Calls of the mark match.
    MatchMark = "match_mark",
    /// Calls of the conntrack match.
    MatchConntrack = "match_conntrack",
    /// Calls of the addrtype match.
    MatchAddrtype = "match_addrtype",
    /// Calls of the recent match.
    MatchRecent = "match_recent",
    /// Tables compared by name in the recent match's list.
    RecentTableSteps = "recent_table_steps",
    /// Calls of the set match.
    MatchSet = "match_set",
    /// Calls of the nfacct match.
    MatchNfacct = "match_nfacct",
    /// Calls of any other match.
    MatchOther = "match_other",
    /// Jumps into a user chain.
    Jumps = "jumps",
    /// Returns from a user chain, by rule or by its end.
    Returns = "returns",
    /// Calls of an extension target (MARK, DNAT, MASQUERADE, REJECT).
    TargetCalls = "target_calls",
    /// ICMP errors or resets sent.
    Rejects = "rejects",
    /// One nftables base chain entered.
    NftChains = "nft_chains",
    /// An nftables rule begun.
    NftRules = "nft_rules",
    /// A packet header field loaded into a register.
    NftPayload = "nft_payload",
    /// A meta field loaded or set.
    NftMeta = "nft_meta",
    /// A conntrack field loaded.
    NftCt = "nft_ct",
    /// A comparison of a register with a constant, or a range check.
    NftCmp = "nft_cmp",
    /// A bitwise operation on a register.
    NftBitwise = "nft_bitwise",
    /// An immediate value or verdict.
    NftImmediate = "nft_immediate",
    /// A lookup in a set or map.
    NftLookup = "nft_lookup",
    /// A number generated (random or incremental).
    NftNumgen = "nft_numgen",
    /// A route lookup by the fib expression.
    NftFib = "nft_fib",
    /// An update of a dynamic set.
    NftDynset = "nft_dynset",
    /// A NAT binding asked for by a nat or masquerade expression.
    NftNat = "nft_nat",
    /// Jumps or gotos into another nftables chain.
    NftJumps = "nft_jumps",
    /// Jenkins hashes computed.
    Jhash = "jhash",
    /// SipHashes computed.
    Siphash = "siphash",
    /// Elements compared in a hash bucket of a set, map or ipset.
    HashSteps = "hash_steps",
    /// Nodes visited in an interval tree.
    RbSteps = "rb_steps",
    /// An ipset tested.
    SetTests = "set_tests",
    /// A lookup in the IPVS connection table.
    IpvsConnLookup = "ipvs_conn_lookup",
    /// A connection compared in a bucket of the IPVS connection table.
    IpvsConnSteps = "ipvs_conn_steps",
    /// A lookup in the IPVS service table.
    IpvsSvcLookup = "ipvs_svc_lookup",
    /// A service compared in a bucket of the IPVS service table.
    IpvsSvcSteps = "ipvs_svc_steps",
    /// A scheduler run.
    IpvsSchedule = "ipvs_schedule",
    /// A destination looked at by a scheduler.
    IpvsDestSteps = "ipvs_dest_steps",
    /// A new IPVS connection: allocation, binding, hashing, timer.
    IpvsConnNew = "ipvs_conn_new",
    /// A packet translated and re-injected by IPVS.
    IpvsXmit = "ipvs_xmit",
    /// A route looked up because it was not cached with the destination.
    RouteMiss = "route_miss",
    /// A route to a local address built because it was not cached.
    RouteLocalMiss = "route_local_miss",
    /// Random 32-bit numbers drawn.
    RngU32 = "rng_u32",
    /// Refills of the per-CPU batch of random numbers.
    RngRefills = "rng_refills",
    /// Distinct cache lines read in address order by a walk over a rule blob.
    LinesStream = "lines_stream",
    /// Distinct cache lines reached through a pointer: hash elements, chains, blobs, connections.
    LinesChase = "lines_chase",
    /// Lines among these two that hold data of the one Service found: its chains, elements and destinations.
    LinesOwn = "lines_own",
    /// Lines among those that hold data of the one endpoint chosen.
    LinesEndpoint = "lines_endpoint",
    /// A packet handed to a user-space proxy and back.
    UserspaceHops = "userspace_hops",
    /// A lookup in an eBPF hash map.
    EbpfLookup = "ebpf_lookup",
    /// An xtables rule whose source fitted, so that its destination was compared.
    RuleSrcHits = "rule_src_hits",
    /// An xtables rule whose addresses fitted, so that its devices and its protocol were compared.
    RuleAddrHits = "rule_addr_hits",
    /// An xtables rule evaluated against IPv6 addresses: what these cost beside those of IPv4.
    RuleEvalsV6 = "rule_evals_v6",
    /// A protocol test of an xtables rule that walks the extension headers of an IPv6 packet.
    RuleProtosV6 = "rule_protos_v6",
    /// A packet of IPv6 received, routed and sent: what it costs beside one of IPv4.
    PathV6 = "path_v6",
    /// The first packet of a connection of IPv6: what its entry and bindings cost beside those of IPv4.
    CtNewV6 = "ct_new_v6",
    /// An nftables base chain that looks for the transport header of an IPv6 packet.
    NftChainsV6 = "nft_chains_v6",
    /// A field, mask or comparison of more than four bytes.
    NftLong = "nft_long",
    /// Bytes of keys that Jenkins hashes take one by one (`jhash`, not `jhash2`).
    JhashBytes = "jhash_bytes",
    /// A packet received and routed, then stopped by a rule: nothing is sent on.
    PathStopped = "path_stopped",
    /// The entry of a new connection made and freed again, because its first packet was stopped.
    CtStopped = "ct_stopped",
    /// A TCP packet taken through connection tracking's state machine.
    CtTcp = "ct_tcp",
    /// A SYN that begins a tracked connection, with its options.
    CtTcpNew = "ct_tcp_new",
    /// A TCP packet taken through the state machine of IPVS.
    IpvsTcp = "ipvs_tcp",
    /// A packet whose source was rewritten, looked up in the IPsec policies.
    NatXfrm = "nat_xfrm",
    /// Bytes of names compared in the recent match's list of tables.
    RecentNameBytes = "recent_name_bytes",
    /// An address that the recent match finds in its table.
    RecentFound = "recent_found",
    /// An address that the recent match adds to its table.
    RecentNew = "recent_new",
    /// An address that the recent match drops to make room.
    RecentEvict = "recent_evict",
    /// An ipset of one of the hash types tested.
    SetHashTests = "set_hash_tests",
    /// An element that a rule adds to a dynamic set.
    NftDynsetNew = "nft_dynset_new",
    /// A netfilter hook with functions registered, entered.
    HookCalls = "hook_calls",
    /// Nodes of the routing trie visited beyond those of the shortest lookup.
    FibNodes = "fib_nodes",
    /// A packet sent through the queue of a device that has one.
    PathQueued = "path_queued",
    /// An ICMP error about a packet for another node, whose way back is looked up as if it had come in.
    IcmpRouted = "icmp_routed",
    /// An ICMP error built and sent by this node.
    IcmpErrors = "icmp_errors",
    /// A TCP segment for a closed port of this node, answered by a reset.
    TcpResets = "tcp_resets",
    /// A conntrack entry thrown out for want of room.
    CtEvictions = "ct_evictions",
    /// An entry written to an eBPF map.
    EbpfUpdates = "ebpf_updates",
    /// A counter of an nftables rule incremented.
    NftCounter = "nft_counter",
    /// An xtables match or target called from an nftables rule, as iptables-nft writes them.
    NftCompat = "nft_compat",
    /// Any other nftables expression: limit, log, quota, hash, byteorder, object reference.
    NftOther = "nft_other",
    /// Groups of bits looked up in an nftables set of concatenated ranges.
    PipapoGroups = "pipapo_groups",
}

/// Counters of work, one per [`Unit`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Work([u32; Unit::COUNT]);

impl Default for Work {
    fn default() -> Self {
        Work([0; Unit::COUNT])
    }
}

impl Work {
    /// Nothing done yet.
    pub fn new() -> Self {
        Work::default()
    }
    /// What was done since it stood at `before` was done `times` times.
    pub fn repeat_since(&mut self, before: &Work, times: u32) {
        for (now, before) in self.0.iter_mut().zip(before.0) {
            *now = before + (*now - before) * times;
        }
    }
    /// The counters that are not zero, in unit order.
    pub fn iter(&self) -> impl Iterator<Item = (Unit, u32)> + '_ {
        Unit::ALL.iter().map(|&u| (u, self[u])).filter(|&(_, n)| n > 0)
    }
}

impl Index<Unit> for Work {
    type Output = u32;
    #[inline]
    fn index(&self, unit: Unit) -> &u32 {
        &self.0[unit as usize]
    }
}
impl IndexMut<Unit> for Work {
    #[inline]
    fn index_mut(&mut self, unit: Unit) -> &mut u32 {
        &mut self.0[unit as usize]
    }
}
impl AddAssign<&Work> for Work {
    fn add_assign(&mut self, other: &Work) {
        for (a, b) in self.0.iter_mut().zip(other.0.iter()) {
            *a = a.checked_add(*b).expect("work counter overflows 32 bits");
        }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(u, n)| (u.name(), n))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_names_are_distinct_and_every_unit_is_described() {
        let mut names: Vec<_> = Unit::ALL.iter().map(|u| u.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Unit::COUNT);
        assert!(Unit::ALL.iter().all(|u| u.describe().ends_with('.')));
    }
}
