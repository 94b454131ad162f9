//! `limit rate N/UNIT burst M packets`: a bucket of tokens, one a nanosecond (`net/netfilter/nft_limit.c:nft_limit_eval`).
//!
//! A packet costs as many as pass between two at the rate. Left out: limits by bytes, since packets here have no length.

use super::Flow;
use crate::kernel::hook::PacketCx;
use crate::kernel::nftables::set::dynamic::{DynamicSets, Slot};
use sim_core::classify::Unit;

/// Packets at once where nothing else is said (`NFT_LIMIT_PKT_BURST_DEFAULT`).
pub const DEFAULT_BURST: u32 = 5;

/// Bound the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Packets in a unit of time.
    pub rate: u64,
    /// The unit.
    pub unit: TimeUnit,
    /// Packets that may come at once.
    pub burst: u32,
    /// `over`: match what is beyond the rate.
    pub over: bool,
    /// Its bucket on a node.
    pub slot: Slot,
}

/// A unit of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    /// A second.
    Second,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
    /// 7 days.
    Week,
}

impl TimeUnit {
    /// Every unit.
    pub const ALL: [TimeUnit; 5] =
        [TimeUnit::Second, TimeUnit::Minute, TimeUnit::Hour, TimeUnit::Day, TimeUnit::Week];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            TimeUnit::Second => "second",
            TimeUnit::Minute => "minute",
            TimeUnit::Hour => "hour",
            TimeUnit::Day => "day",
            TimeUnit::Week => "week",
        }
    }

    /// Nanoseconds.
    pub fn as_ns(self) -> u64 {
        let seconds = match self {
            TimeUnit::Second => 1,
            TimeUnit::Minute => 60,
            TimeUnit::Hour => 3600,
            TimeUnit::Day => 86_400,
            TimeUnit::Week => 604_800,
        };
        seconds * 1_000_000_000
    }
}

impl Limit {
    /// Tokens of one packet.
    pub fn cost(&self) -> u64 {
        self.unit.as_ns() / self.rate.max(1)
    }
    /// Tokens that the bucket holds.
    pub fn capacity(&self) -> u64 {
        self.cost().saturating_mul(u64::from(self.burst))
    }

    /// Runs it; without a node's buckets every packet finds a full one.
    pub fn eval(&self, cx: &mut PacketCx<'_>, state: Option<&mut DynamicSets>) -> Flow {
        cx.work[Unit::NftOther] += 1;
        let within = state.is_none_or(|s| s.take(self.slot, self.cost(), self.capacity(), cx.now));
        if within != self.over { Flow::Continue } else { Flow::Break }
    }
}
