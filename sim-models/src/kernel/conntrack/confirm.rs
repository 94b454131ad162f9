//! The two ends of a connection's first packet: it begins a connection ([`Conntrack::open`],
//! `nf_conntrack_core.c:init_conntrack`), and when it leaves the node the connection enters the table
//! ([`Conntrack::confirm`], `__nf_conntrack_confirm`).
//!
//! Between the two another packet may have entered the same tuples. A UDP flow that is the same on both sides is
//! merged into the one that is there; one that differs in its answers, having been sent to another destination, is
//! entered by its reply alone for a second (`nf_ct_resolve_clash`, `nf_ct_resolve_clash_harder`), so that two first
//! packets of one socket can reach two backends. Of other protocols the packet is dropped, as is one whose bucket is
//! longer than 50 to 79 entries.
//!
//! Left out: clashes of two flows in opposite directions (`nf_ct_match_reverse`).

use super::tcp::Tracker;
use super::{Conn, ConnId, Conntrack, ENTRIES_PER_PAGE, NIL, NatStatus, TableFull, Track, Tuple, number};
use sim_core::classify::hash::reciprocal_scale;
use sim_core::classify::{Proto, TcpFlags, Unit, Work};
use sim_core::units::{SimSpan, SimTime};
use siphasher::sip::SipHasher24;

/// Shortest chain that a confirmation can find too long (`MIN_CHAINLEN`), and the width of the draw above it.
const CHAIN_LIMIT: (u32, u32) = (50, 30);
/// Life of an entry that lost a clash.
const CLASHED: SimSpan = SimSpan::from_secs(1);
/// A UDP flow is a stream after this long.
const STREAM_AFTER: SimSpan = SimSpan::from_secs(2);

/// A connection begun by its first packet and not yet in the table.
#[derive(Clone, Copy, Debug)]
#[must_use = "it is confirmed or abandoned"]
pub struct New {
    /// Tuple of the packet.
    pub original: Tuple,
    /// Tuple of an answer; NAT changes it.
    pub reply: Tuple,
    /// What NAT rewrites.
    pub nat: NatStatus,
    /// Whether NAT has looked at it.
    pub nat_done: bool,
    /// The connection's mark.
    pub mark: u32,
    pub(super) bucket: u32,
    pub(super) track: Track,
    pub(super) lifetime: SimSpan,
}

/// Why a packet begins no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The table is full: the packet is dropped.
    Full,
    /// No connection begins like that: the packet passes untracked, as invalid.
    Invalid,
}

/// What became of a connection at its confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// It is in the table.
    Entered(ConnId),
    /// The same flow was there already; the packet belongs to it.
    Merged(ConnId),
    /// Its first tuple was taken: it is in the table by its reply, for a second.
    ReplyOnly(ConnId),
    /// A tuple was taken: the packet is dropped.
    Clash,
    /// A bucket is too long: the packet is dropped.
    ChainTooLong,
}

impl Conntrack {
    /// Begins a connection with a packet whose tuple was looked up in `bucket` and not found.
    pub fn open(
        &mut self,
        original: Tuple,
        bucket: u32,
        flags: TcpFlags,
        now: SimTime,
        work: &mut Work,
    ) -> Result<New, Refused> {
        if !self.room_in(bucket, now, work) {
            return Err(Refused::Full);
        }
        let (track, lifetime) = self.track(original.proto, flags, now).ok_or(Refused::Invalid)?;
        self.pending += 1;
        Ok(New {
            original,
            reply: original.reversed(),
            nat: NatStatus::default(),
            nat_done: false,
            mark: 0,
            bucket,
            track,
            lifetime,
        })
    }

    fn track(&self, proto: Proto, flags: TcpFlags, now: SimTime) -> Option<(Track, SimSpan)> {
        Some(match proto.number() {
            number::TCP => {
                let (tracker, lifetime) = Tracker::begin(flags, &self.config)?;
                (Track::Tcp(tracker), lifetime)
            }
            number::UDP | number::UDPLITE => (Track::Udp(now + STREAM_AFTER), self.config.udp),
            number::SCTP => (Track::Sctp(0), SimSpan::from_secs(3)),
            other => (Track::Plain, super::plain_lifetime(other)),
        })
    }

    /// Gives up a connection whose first packet was dropped.
    pub fn abandon(&mut self, _: New) {
        self.pending -= 1;
    }

    /// Enters the connection.
    pub fn confirm(&mut self, new: New, now: SimTime, work: &mut Work) -> Confirmed {
        self.pending -= 1;
        if self.heads.is_empty() {
            self.heads = vec![NIL; self.config.buckets as usize];
        }
        let second = self.bucket(&new.reply);
        let (by_original, length) = self.search(new.bucket, &new.original, now);
        if let Some((winner, _)) = by_original {
            return self.resolve(winner, &new, second, now, work);
        }
        let (by_reply, other_length) = self.search(second, &new.reply, now);
        if let Some((winner, _)) = by_reply {
            return self.resolve(winner, &new, second, now, work);
        }
        let longest = length.max(other_length);
        if longest > CHAIN_LIMIT.0 && longest > self.chain_limit() {
            return Confirmed::ChainTooLong;
        }
        Confirmed::Entered(self.enter(&new, second, false, now, work))
    }

    /// The limit drawn for this confirmation; a draw of its own, so that no other stream moves.
    fn chain_limit(&self) -> u32 {
        let draw = SipHasher24::new_with_keys(self.key.0, self.key.1).hash(&self.allocations.to_le_bytes());
        CHAIN_LIMIT.0 + reciprocal_scale(draw as u32, CHAIN_LIMIT.1)
    }

    fn resolve(
        &mut self,
        winner: ConnId,
        new: &New,
        second: u32,
        now: SimTime,
        work: &mut Work,
    ) -> Confirmed {
        let there = &self.conns[winner as usize];
        if !matches!(new.track, Track::Udp(_)) {
            return Confirmed::Clash;
        }
        let same = there.original == new.original && there.reply == new.reply;
        if !there.nat_done || same {
            return Confirmed::Merged(winner);
        }
        if self.search(second, &new.reply, now).0.is_some() {
            return Confirmed::Clash;
        }
        Confirmed::ReplyOnly(self.enter(new, second, true, now, work))
    }

    /// Enters a connection under both tuples without asking whether they are free.
    pub fn insert(
        &mut self,
        original: Tuple,
        reply: Tuple,
        nat: NatStatus,
        now: SimTime,
        work: &mut Work,
    ) -> Result<ConnId, TableFull> {
        let bucket = self.bucket(&original);
        let new = self.open(original, bucket, TcpFlags::SYN, now, work).map_err(|_| TableFull)?;
        self.pending -= 1;
        if self.heads.is_empty() {
            self.heads = vec![NIL; self.config.buckets as usize];
        }
        let second = self.bucket(&reply);
        Ok(self.enter(&New { reply, nat, nat_done: true, ..new }, second, false, now, work))
    }

    fn enter(&mut self, new: &New, second: u32, reply_only: bool, now: SimTime, work: &mut Work) -> ConnId {
        work[Unit::CtNew] += 1;
        if self.allocations.is_multiple_of(ENTRIES_PER_PAGE) {
            work[Unit::CtSlabPages] += 1;
        }
        self.allocations += 1;
        let conn = Conn {
            original: new.original,
            reply: new.reply,
            nat: new.nat,
            mark: new.mark,
            nat_done: new.nat_done,
            track: new.track,
            answered: false,
            assured: false,
            reply_only,
            expires: now + if reply_only { CLASHED } else { new.lifetime },
            next: [NIL; 2],
            buckets: [new.bucket, second],
            next_by_source: NIL,
            live: true,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.conns[id as usize] = conn;
                id
            }
            None => {
                self.conns.push(conn);
                u32::try_from(self.conns.len() - 1).expect("conntrack ids fit 31 bits")
            }
        };
        if !reply_only {
            self.link(id, 0, new.bucket);
        }
        self.link(id, 1, second);
        self.live += 1;
        self.remember_source(id);
        id
    }
}
