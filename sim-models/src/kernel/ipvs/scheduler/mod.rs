//! IPVS schedulers, one a file, under the kernel's names (`net/netfilter/ipvs/ip_vs_<name>.c`, Linux 6.12).
//!
//! To add one: write the file, name its module here and add a line to the list of `schedulers!`; a test
//! sees to it that no file is forgotten. It is kept small: what is large goes behind a pointer of its own. A scheduler lives in one node's [`super::IpvsState`], one per service that the node
//! has used. It sees the destinations in the kernel's list order, newest first. A destination is eligible when its
//! weight is not 0 and its connections have not passed its thresholds (`IP_VS_DEST_F_OVERLOAD`), which kube-proxy
//! never sets.
//!
//! Departure: a scheduler begins with the destinations that its service has at the node's first packet to it, added
//! one after the other as they stand; what weights they had before is not known to it.

use super::SchedulerFlags;
use crate::kernel::hook::KernelRandom;
use sim_core::classify::{Packet, Unit, Work};
use sim_core::units::SimTime;
use std::net::SocketAddr;

mod dh;
mod fo;
mod lblc;
mod lblcr;
mod lc;
mod mh;
mod nq;
mod ovf;
mod rr;
mod sed;
mod sh;
mod twos;
mod wlc;
mod wrr;

/// A destination as schedulers see it. It fills a cache line, and all that a new connection changes is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct Dest {
    /// Address and port.
    pub addr: SocketAddr,
    /// Weight; 0 takes no new connections.
    pub weight: u32,
    /// The last weight that was not 0, or that it was added with.
    pub last_weight: u32,
    /// Whether its connections have reached its upper threshold and not fallen below the lower one since.
    pub overloaded: bool,
    /// Connections counted as active.
    pub active: u32,
    /// All others, expiring ones and UDP included.
    pub inactive: u32,
    /// Handle in the node's state; stays while positions move.
    pub(super) slot: u32,
    /// Connections and templates that point here.
    pub(super) conns: u32,
    /// Its service address among those whose route is cached.
    pub(super) vip: u32,
    /// Whether it has thresholds.
    pub(super) limited: bool,
    /// Whether the route to it is cached.
    pub(super) route_cached: bool,
}

const _: () = assert!(size_of::<Dest>() == 64, "a destination is a line");

/// How `lc`, `wlc`, `lblc`, `lblcr` and `twos` weigh connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overhead {
    /// 256 x active + inactive (mainline for most of its life).
    Inactive,
    /// 256 x active + all, that is 257 x active + inactive (Linux 6.12.117 and later).
    #[default]
    Total,
}

impl Dest {
    /// A destination without connections.
    pub(super) fn new(addr: SocketAddr, weight: u32, slot: u32) -> Self {
        Dest {
            addr,
            weight,
            last_weight: weight,
            overloaded: false,
            active: 0,
            inactive: 0,
            slot,
            conns: 0,
            vip: 0,
            limited: false,
            route_cached: false,
        }
    }

    /// Whether it takes new connections.
    pub fn is_eligible(&self) -> bool {
        self.weight > 0 && !self.overloaded
    }

    /// Load in the kernel's fixed-point form (`ip_vs_dest_conn_overhead`).
    pub fn overhead(&self, formula: Overhead) -> u64 {
        let per_active = match formula {
            Overhead::Inactive => 256,
            Overhead::Total => 257,
        };
        u64::from(self.active) * per_active + u64::from(self.inactive)
    }
}

/// What a scheduler may look at besides the destinations.
pub struct ScheduleCx<'a> {
    /// The packet that opens the connection.
    pub packet: &'a Packet,
    /// Flags of the service.
    pub flags: SchedulerFlags,
    /// The kernel's load formula.
    pub overhead: Overhead,
    /// Time.
    pub now: SimTime,
    /// The CPU's random numbers.
    pub random: &'a mut KernelRandom,
    /// Counters.
    pub work: &'a mut Work,
}

impl ScheduleCx<'_> {
    /// Counts `n` destinations looked at.
    #[inline]
    fn looked_at(&mut self, n: usize) {
        self.work[Unit::IpvsDestSteps] += u32::try_from(n).expect("fewer than 2^32 destinations");
    }
}

/// How a destination list changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestChange {
    /// A new destination stands at position 0, all others moved up by one.
    Added,
    /// The one at this position is gone.
    Removed(usize),
    /// A weight changed.
    Updated,
}

/// Chooses the destination of a new connection.
pub trait Scheduler: std::fmt::Debug + Send {
    /// The position of the chosen destination, or `None` when no one can take the connection. Counts the
    /// destinations it looks at; the call itself is counted by the caller.
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize>;

    /// Told after each change of the list.
    fn changed(&mut self, _dests: &[Dest], _change: DestChange) {}
}

/// Lists the schedulers: a scheduler is called through a variant of its own and lies within its service, so that it
/// costs a packet neither a pointer nor a line of memory.
macro_rules! schedulers {
    ($($name:literal, $about:literal, $module:ident::$kind:ident;)+) => {
        /// A scheduler at work.
        #[derive(Debug)]
        pub enum AnyScheduler {
            $(#[doc = $about] $kind($module::$kind),)+
        }

        impl Scheduler for AnyScheduler {
            #[inline]
            fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
                match self { $(AnyScheduler::$kind(own) => own.schedule(cx, dests),)+ }
            }
            fn changed(&mut self, dests: &[Dest], change: DestChange) {
                match self { $(AnyScheduler::$kind(own) => own.changed(dests, change),)+ }
            }
        }

        /// Every scheduler: its name for `ipvsadm -s`, what it does, and how to make one.
        pub const SCHEDULERS: &[(&str, &str, MakeScheduler)] =
            &[$(($name, $about, || AnyScheduler::$kind($module::$kind::default())),)+];
    };
}

/// Makes a scheduler.
pub type MakeScheduler = fn() -> AnyScheduler;

schedulers! {
    "rr", "round robin", rr::RoundRobin;
    "wrr", "weighted round robin", wrr::WeightedRoundRobin;
    "lc", "least connections", lc::LeastConnections;
    "wlc", "weighted least connections", wlc::WeightedLeastConnections;
    "sed", "shortest expected delay", sed::ShortestExpectedDelay;
    "nq", "never queue: an idle server first, else sed", nq::NeverQueue;
    "sh", "source hashing", sh::SourceHashing;
    "dh", "destination hashing", dh::DestinationHashing;
    "mh", "Maglev hashing", mh::Maglev;
    "fo", "failover: the heaviest server takes all", fo::Failover;
    "ovf", "overflow: the heaviest server until it is full", ovf::Overflow;
    "lblc", "locality-based least connections", lblc::LocalityLeastConnections;
    "lblcr", "locality-based least connections with replication", lblcr::LocalityWithReplication;
    "twos", "the less loaded of two chosen at random", twos::TwoRandomChoices;
}

/// The maker of the scheduler called `name`.
pub fn by_name(name: &str) -> Option<MakeScheduler> {
    SCHEDULERS.iter().find(|(known, ..)| *known == name).map(|&(_, _, make)| make)
}

/// The eligible destination with the least `load / weight`, the first on a tie, as `wlc`, `sed` and the
/// locality schedulers choose it: the comparison is a cross product, so a weight of 0 never wins.
fn least_by_weight(dests: &[Dest], load: impl Fn(&Dest) -> u64) -> Option<usize> {
    let mut best = dests.iter().position(Dest::is_eligible)?;
    for at in best + 1..dests.len() {
        if dests[at].overloaded {
            continue;
        }
        let candidate = load(&dests[at]) * u64::from(dests[best].weight);
        if load(&dests[best]) * u64::from(dests[at].weight) > candidate {
            best = at;
        }
    }
    Some(best)
}

/// Greatest common divisor of weights, 0 if all are 0.
fn gcd(weights: impl Iterator<Item = u32>) -> u32 {
    weights.fold(0, |a, weight| {
        let (mut a, mut b) = (a, weight);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    })
}

#[cfg(test)]
mod tests;
