//! What a sync is about, in sizes: what the table holds, what of it is written, what is stale.
//!
//! Sizes are those of rules really built, port by port, and add up: a table of 10,000 Services is the sum of its ports
//! and the fixed part, so that a node's sync is known without building the whole table again. What depends on the
//! sum (large-cluster mode) is decided from it.

use std::ops::{Add, AddAssign, Sub, SubAssign};

macro_rules! sizes {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// How much the rules of some service ports are.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Size { $($(#[doc = $doc])+ pub $field: u64,)+ }

        impl AddAssign for Size {
            fn add_assign(&mut self, other: Size) { $(self.$field += other.$field;)+ }
        }
        impl SubAssign for Size {
            fn sub_assign(&mut self, other: Size) { $(self.$field -= other.$field;)+ }
        }
    };
}

sizes! {
    /// Service ports.
    ports,
    /// Endpoints that rules send to.
    reachable,
    /// Endpoints whatever their condition: what large-cluster mode counts.
    endpoints,
    /// Rules of the chains that a sync writes every time (iptables: KUBE-SERVICES, KUBE-NODEPORTS and all of filter).
    common_rules,
    /// Rules of the ports' own chains, written when the port changed.
    own_rules,
    /// Ports of IPv6: with any, the tables are that family's.
    v6_ports,
    /// Matches of common rules (iptables).
    common_matches,
    /// Common rules that lead to a chain (iptables).
    common_jumps,
    /// Ports in common rules that iptables looks up by name: of UDP and SCTP.
    common_port_names,
    /// Matches of own rules, all comments included (iptables).
    own_matches,
    /// Comments among them that large-cluster mode leaves out.
    own_comments,
    /// Statistic matches among them.
    own_statistics,
    /// Recent matches among them.
    own_recents,
    /// Own rules that lead to a chain (iptables).
    own_jumps,
    /// Ports in own rules that iptables looks up by name.
    own_port_names,
    /// Chains of their own.
    chains,
    /// Elements of named maps and sets (nftables), entries of ipsets (ipvs).
    elements,
    /// Named sets of their own, for affinity (nftables).
    named_sets,
    /// Anonymous maps and sets inside rules (nftables).
    anonymous,
    /// Elements of those.
    anonymous_elements,
    /// Virtual servers (ipvs).
    servers,
    /// Real servers (ipvs).
    destinations,
    /// Addresses on kube-ipvs0 (ipvs).
    addresses,
}

impl Add for Size {
    type Output = Size;
    fn add(mut self, other: Size) -> Size {
        self += other;
        self
    }
}
impl Sub for Size {
    type Output = Size;
    fn sub(mut self, other: Size) -> Size {
        self -= other;
        self
    }
}

/// Why everything or only some of it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    /// The first after a start.
    First,
    /// Everything is written, jumps are ensured: after a failure, a changed zone, an hour, a vanished canary.
    Full,
    /// Changed Services only, where the mode can.
    Partial,
}

/// One sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncShape {
    /// Its kind.
    pub kind: SyncKind,
    /// All ports, as they are after it.
    pub table: Size,
    /// All ports, as the kernel had them before; nothing at a start on a clean node.
    pub before: Size,
    /// The ports whose own chains are written: the changed ones, or all.
    pub written: Size,
    /// The same ports as the kernel had them before.
    pub replaced: Size,
    /// Whether endpoints of a UDP port changed: conntrack is then cleaned up.
    pub udp: bool,
    /// Whether stale chains are looked for (iptables; every time below 1,000 endpoints, else once a sync-period).
    pub look_for_stale: bool,
}

/// Endpoints above which kube-proxy looks for stale chains once a sync-period only (`largeClusterEndpointsThreshold`).
const LARGE: u64 = crate::proxy::iptables::LARGE_CLUSTER_ENDPOINTS;

impl SyncShape {
    /// The first sync of a node without rules.
    pub fn first(table: Size) -> Self {
        SyncShape {
            kind: SyncKind::First,
            table,
            before: Size::default(),
            written: table,
            replaced: Size::default(),
            udp: false,
            look_for_stale: true,
        }
    }

    /// Everything again, where nothing has changed.
    pub fn full(table: Size) -> Self {
        let look_for_stale = table.endpoints <= LARGE;
        SyncShape { kind: SyncKind::Full, before: table, replaced: table, look_for_stale, ..Self::first(table) }
    }

    /// Ports of this size have other endpoints, of the same number.
    pub fn change(table: Size, changed: Size) -> Self {
        SyncShape { kind: SyncKind::Partial, written: changed, replaced: changed, ..Self::full(table) }
    }

    /// Ports of this size are new in a table that is now `table`.
    pub fn added(table: Size, new: Size) -> Self {
        let before = table - new;
        SyncShape { before, replaced: Size::default(), ..Self::change(table, new) }
    }

    /// Ports of this size are gone from a table that is now `table`.
    pub fn removed(table: Size, gone: Size) -> Self {
        SyncShape { before: table + gone, written: Size::default(), ..Self::change(table, gone) }
    }
}
