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
    /// Chains of their own.
    chains,
    /// Elements of maps and sets (nftables), entries of ipsets (ipvs).
    elements,
    /// Anonymous maps and sets inside rules (nftables).
    anonymous,
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
