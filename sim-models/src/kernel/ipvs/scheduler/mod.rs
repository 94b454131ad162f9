//! IPVS schedulers, one a file, under the kernel's names (`net/netfilter/ipvs/ip_vs_<name>.c`, Linux 6.12).
//!
//! To add one: write the file, name its module here and add a line to [`SCHEDULERS`]; a test sees to it that
//! no file is forgotten. A scheduler lives in one node's [`super::IpvsState`], one per service that the node
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

/// A destination as schedulers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

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

/// Makes a scheduler.
pub type MakeScheduler = fn() -> Box<dyn Scheduler>;

/// Every scheduler: its name for `ipvsadm -s`, what it does, and how to make one.
pub const SCHEDULERS: &[(&str, &str, MakeScheduler)] = &[
    ("rr", "round robin", || Box::new(rr::RoundRobin::default())),
    ("wrr", "weighted round robin", || Box::new(wrr::WeightedRoundRobin::default())),
    ("lc", "least connections", || Box::new(lc::LeastConnections)),
    ("wlc", "weighted least connections", || Box::new(wlc::WeightedLeastConnections)),
    ("sed", "shortest expected delay", || Box::new(sed::ShortestExpectedDelay)),
    ("nq", "never queue: an idle server first, else sed", || Box::new(nq::NeverQueue)),
    ("sh", "source hashing", || Box::new(sh::SourceHashing::default())),
    ("dh", "destination hashing", || Box::new(dh::DestinationHashing::default())),
    ("mh", "Maglev hashing", || Box::new(mh::Maglev::default())),
    ("fo", "failover: the heaviest server takes all", || Box::new(fo::Failover)),
    ("ovf", "overflow: the heaviest server until it is full", || Box::new(ovf::Overflow)),
    ("lblc", "locality-based least connections", || Box::new(lblc::LocalityLeastConnections::default())),
    ("lblcr", "locality-based least connections with replication", || {
        Box::new(lblcr::LocalityWithReplication::default())
    }),
    ("twos", "the less loaded of two chosen at random", || Box::new(twos::TwoRandomChoices)),
];

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
