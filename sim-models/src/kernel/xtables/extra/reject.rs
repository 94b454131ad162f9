//! `-j REJECT` with another answer than a port being unreachable (`net/ipv4/netfilter/ipt_REJECT.c`,
//! `net/ipv6/netfilter/ip6t_REJECT.c`).
//!
//! The packet is always dropped; whether somebody is told depends on it: a reset is not answered by a reset, and a later
//! fragment by nothing.

use super::TargetExt;
use crate::kernel::hook::{Hook, HookVerdict, PacketCx};
use crate::kernel::xtables::TableName;
use crate::kernel::xtables::check::Place;
use sim_core::classify::{Family, Proto};
use std::fmt::{self, Write};

/// Answers by family, with their short names; the first is the usual one, [`Target::Reject`](super::super::Target).
const V4: [(&str, &str); 8] = [
    ("icmp-port-unreachable", "port-unreach"),
    ("icmp-net-unreachable", "net-unreach"),
    ("icmp-host-unreachable", "host-unreach"),
    ("icmp-proto-unreachable", "proto-unreach"),
    ("icmp-net-prohibited", "net-prohib"),
    ("icmp-host-prohibited", "host-prohib"),
    ("icmp-admin-prohibited", "admin-prohib"),
    ("tcp-reset", "tcp-rst"),
];
const V6: [(&str, &str); 7] = [
    ("icmp6-port-unreachable", "port-unreach"),
    ("icmp6-no-route", "no-route"),
    ("icmp6-adm-prohibited", "adm-prohibited"),
    ("icmp6-addr-unreachable", "addr-unreach"),
    ("icmp6-policy-fail", "policy-fail"),
    ("icmp6-reject-route", "reject-route"),
    ("tcp-reset", "tcp-rst"),
];

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RejectWith {
    name: &'static str,
}

impl RejectWith {
    /// The answer of that name: `Some(None)` if it is the usual one, `None` if there is none.
    pub fn named(name: &str, family: Family) -> Option<Option<Self>> {
        let names: &[(&'static str, &str)] = match family {
            Family::Ipv4 => &V4,
            Family::Ipv6 => &V6,
        };
        let at = names.iter().position(|(long, short)| *long == name || *short == name)?;
        Some((at > 0).then(|| RejectWith { name: names[at].0 }))
    }

    /// What goes back: `tcp-reset`, or the name of an ICMP message.
    pub fn name(self) -> &'static str {
        self.name
    }
}

impl TargetExt for RejectWith {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        write!(out, " REJECT --reject-with {}", self.name)
    }

    fn bytes(&self, _: Family) -> u64 {
        40
    }

    fn run(&self, cx: &mut PacketCx<'_>) -> Option<HookVerdict> {
        let silent = cx.packet.detail.fragment != 0 || (self.name == "tcp-reset" && cx.packet.flags.rst);
        Some(if silent { HookVerdict::Drop } else { HookVerdict::Reject })
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        let hooks = [Hook::Input, Hook::Forward, Hook::Output];
        let reset = (self.name == "tcp-reset").then(|| super::only_for(&at, &[Proto::Tcp])).flatten();
        at.only(Some(TableName::Filter), &hooks).or(reset)
    }
}
