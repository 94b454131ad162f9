//! `ipset save`: what `ipset restore` reads back.
//!
//! Departure: `ipset save` of 7.17 on kernel 6.18 prints `bucketsize 12` and a random `initval` after these options of a
//! hash set (seen), older versions do not; here only what kube-proxy gave, which every version reads back.

use super::{IpSet, SetKind};
use sim_core::classify::Family;
use std::fmt::Write as _;

/// Number of buckets that a hash set starts with, kube-proxy's and ipset's default.
pub const HASHSIZE: u32 = 1024;

/// The sets as `create` lines, then their elements as `add` lines, set by set.
pub fn save(sets: &[IpSet]) -> String {
    let mut out = String::new();
    for set in sets {
        out.push_str(&create(set));
        out.push('\n');
        write_elements(set, &mut out);
    }
    out
}

/// The line that creates a set, without a line end.
pub(super) fn create(set: &IpSet) -> String {
    let family = match set.family {
        Family::Ipv4 => "inet",
        Family::Ipv6 => "inet6",
    };
    match set.kind {
        SetKind::BitmapPort => format!("create {} bitmap:port range 0-65535", set.name),
        kind => {
            format!("create {} {kind} family {family} hashsize {HASHSIZE} maxelem {}", set.name, set.maxelem)
        }
    }
}

/// A set's elements, a line each.
pub(super) fn write_elements(set: &IpSet, out: &mut String) {
    for element in &set.elements {
        writeln!(out, "add {} {element}", set.name).expect("a string takes all");
    }
}
