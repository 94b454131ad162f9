//! What a person does by hand to add a Service: one run of a tool after another.
//!
//! Published comparisons of the modes time `iptables -A` and `ipvsadm -A` against the Services that are there. Each
//! run of iptables reads, compiles and replaces the whole table, so that adding N Services one by one takes time that
//! grows with the square of N; ipvsadm sends one request.
//!
//! Left out: waiting for the xtables lock.

use super::xtables::{self, Rules};
use super::{Parts, SyncWork, ipvs};
use crate::kernel::cost::CostProfile;

/// What adds the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `iptables -A`, a rule a run, on xtables.
    Iptables,
    /// `ipvsadm -A`, a virtual server a run.
    Ipvsadm,
}

/// The shape of the tables that were published: rules of one Service, of which each chain has two and each rule one match.
pub fn rules_of(services: u64, rules_each: u64) -> Rules {
    let rules = services * rules_each;
    Rules { rules, chains: rules / 4, matches: rules, jumps: rules / 2, ..Rules::default() }
}

/// One run: a rule is added to a table of this many Services.
pub fn add_one(tool: Tool, services: u64, rules_each: u64) -> SyncWork {
    let table = rules_of(services, rules_each);
    match tool {
        Tool::Iptables => {
            let one = Rules { rules: 1, matches: 1, ..Rules::default() };
            xtables::restore(one, table, table + one)
        }
        Tool::Ipvsadm => ipvs::ipvsadm(1, 0, "rr"),
    }
}

/// All rules of so many Services, one run each, into an empty table: the exact sum of [`add_one`]'s work at each size.
pub fn add_all(tool: Tool, services: u64, rules_each: u64) -> SyncWork {
    let mut sum = SyncWork::default();
    for rules in 0..services * if tool == Tool::Iptables { rules_each } else { 1 } {
        let step = match tool {
            Tool::Iptables => add_one(tool, rules, 1),
            Tool::Ipvsadm => add_one(tool, rules, 1),
        };
        sum += step;
    }
    sum
}

/// Time by part of such work, in thousands of the profile's unit: by the prices of tools that run alone.
pub fn parts(work: &SyncWork, profile: &CostProfile) -> Parts {
    work.parts(|name| profile.tool_price(name))
}
