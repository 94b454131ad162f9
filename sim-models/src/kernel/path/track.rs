//! What connection tracking does to a packet on its path: it finds or begins the packet's connection
//! (`nf_conntrack_core.c:nf_conntrack_in`) and confirms it at the end (`nf_conntrack_confirm`).
//!
//! A packet is of a known connection, begins one, or is of none: invalid, or exempt because a rule in table raw said
//! so. An ICMP error is related to the connection of the packet it quotes (`nf_conntrack_inet_error`).

use super::NodeState;
use super::walk::Walk;
use crate::kernel::conntrack::{Confirmed, ConnId, Direction, NatStatus, New, Passage, Refused, Tuple};
use crate::kernel::hook::{CtState, HookVerdict};
use crate::kernel::trace::{Observer, Step};
use sim_core::classify::{Family, Packet, Proto, Unit, Work};
use sim_core::units::SimTime;

/// The packet's connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tracked {
    /// How rules see the packet.
    pub(super) state: CtState,
    pub(super) direction: Direction,
    pub(super) original: Tuple,
    pub(super) reply: Tuple,
    pub(super) nat: NatStatus,
    pub(super) mark: u32,
    pub(super) dst_bound: bool,
    pub(super) src_bound: bool,
    /// Whether there is a connection at all.
    pub(super) found: bool,
    /// Its entry in the table.
    pub(super) id: Option<ConnId>,
    /// It was begun by this packet.
    new: Option<New>,
    /// It was begun by this packet, be it confirmed or not.
    first: bool,
    /// Conntrack knows already that the packet is of no connection.
    none: bool,
}

impl Tracked {
    /// Before conntrack has looked at the packet.
    pub(super) fn not_yet(packet: &Packet) -> Self {
        let original = Tuple::of(packet);
        Tracked {
            state: CtState::Invalid,
            direction: Direction::Original,
            original,
            reply: original,
            nat: NatStatus::default(),
            mark: 0,
            dst_bound: true,
            src_bound: true,
            found: false,
            id: None,
            new: None,
            first: false,
            none: false,
        }
    }

    /// Of a packet that is of no connection and begins none.
    pub(super) fn of_none(packet: &Packet) -> Self {
        Tracked { none: true, ..Tracked::not_yet(packet) }
    }

    /// It counts as the first packet of a connection if `began` is true, whatever else it is.
    pub(super) fn count_as_first(&mut self, began: bool) {
        self.first |= began;
    }

    pub(super) fn is_reply(&self) -> bool {
        self.direction == Direction::Reply
    }

    /// A rule asks for no tracking; too late once there is a connection.
    pub(super) fn exempt(&mut self) {
        if !self.found {
            self.state = CtState::Untracked;
        }
    }
}

impl<O: Observer> Walk<'_, O> {
    /// Whether the packet began a connection. Without tracking, whether it could have.
    pub(super) fn is_first(&self) -> bool {
        if self.stack.tracks() {
            return self.tracked.first;
        }
        let flags = self.packet.flags;
        self.packet.proto != Proto::Tcp || (flags.syn && !flags.ack)
    }

    /// The conntrack function of PREROUTING and OUTPUT.
    pub(super) fn track(&mut self) -> HookVerdict {
        // A packet that loopback hands back, or that IPVS puts back, has its connection already.
        if self.tracked.found || self.tracked.none {
            return HookVerdict::Accept;
        }
        if self.tracked.state != CtState::Untracked {
            let refused = match self.about {
                Some(about) => self.find_quoted(about),
                None => self.find_or_begin(),
            };
            if refused {
                return HookVerdict::Drop;
            }
        }
        self.tell(Step::Tracked(self.tracked.state));
        HookVerdict::Accept
    }

    /// The connection of the packet that an ICMP error quotes.
    fn find_quoted(&mut self, about: Tuple) -> bool {
        let ct = &mut self.state.conntrack;
        if let Some((id, direction)) = ct.lookup(&about.reversed(), self.now, &mut self.work) {
            self.known(id, direction);
            self.tracked.state = CtState::Related;
        }
        false
    }

    /// True if there is no room for a new connection.
    fn find_or_begin(&mut self) -> bool {
        let tuple = Tuple::of(&self.packet);
        // What finds no room does not get as far as its protocol's state machine.
        let is_tcp = u32::from(self.packet.proto == Proto::Tcp);
        loop {
            let ct = &mut self.state.conntrack;
            let (known, bucket) = ct.lookup_hashed(&tuple, self.now, &mut self.work);
            let Some((id, direction)) = known else {
                return match ct.open(tuple, bucket, self.packet.flags, self.now, &mut self.work) {
                    Ok(new) => {
                        self.work[Unit::CtTcp] += is_tcp;
                        self.begun(new);
                        false
                    }
                    Err(Refused::Invalid) => {
                        self.work[Unit::CtTcp] += is_tcp;
                        false
                    }
                    Err(Refused::Full) => {
                        self.tracked.first = true;
                        true
                    }
                };
            };
            self.known(id, direction);
            match self.state.conntrack.packet(id, direction, self.packet.flags, self.now) {
                Passage::Accepted => {}
                Passage::Ended => self.tracked.id = None,
                Passage::Invalid => self.tracked = Tracked::not_yet(&self.packet),
                Passage::Reopened => {
                    self.tracked = Tracked::not_yet(&self.packet);
                    continue;
                }
            }
            self.work[Unit::CtTcp] += is_tcp;
            return false;
        }
    }

    fn known(&mut self, id: ConnId, direction: Direction) {
        let conn = self.state.conntrack.conn(id);
        self.tracked = Tracked {
            state: match direction {
                Direction::Original if !conn.is_answered() => CtState::New,
                _ => CtState::Established,
            },
            direction,
            original: conn.original,
            reply: conn.reply,
            nat: conn.nat,
            mark: conn.mark,
            found: true,
            id: Some(id),
            ..self.tracked
        };
    }

    fn begun(&mut self, new: New) {
        self.work[Unit::CtTcpNew] += u32::from(self.packet.proto == Proto::Tcp);
        self.work[Unit::CtNewV6] += u32::from(self.packet.family() == Family::Ipv6);
        self.tracked = Tracked {
            state: CtState::New,
            original: new.original,
            reply: new.reply,
            dst_bound: false,
            src_bound: false,
            found: true,
            new: Some(new),
            first: true,
            ..self.tracked
        };
    }

    /// Rules have seen the connection with this mark.
    pub(super) fn marked(&mut self, mark: u32) {
        if !self.tracked.found || mark == self.tracked.mark {
            return;
        }
        self.tracked.mark = mark;
        if let Some(id) = self.tracked.id {
            self.state.conntrack.set_mark(id, mark);
        }
    }

    /// The connection as the packet's path has made it, if it is not yet in the table.
    pub(super) fn unconfirmed(&self) -> Option<New> {
        let Tracked { reply, nat, mark, new, .. } = self.tracked;
        let mut new = new?;
        (new.reply, new.nat, new.mark, new.nat_done) = (reply, nat, mark, self.stack.translates);
        Some(new)
    }

    /// The packet is stopped, and the connection that it began with it.
    pub(super) fn abandon(&mut self) {
        let new = self.tracked.new.take();
        // What found no room was stopped before it was routed.
        if new.is_some() || !self.tracked.first {
            count_stopped(&mut self.work, new.is_some());
        }
        if let Some(new) = new {
            self.state.conntrack.abandon(new);
        }
    }

    /// `nf_conntrack_confirm`: the connection becomes visible, unless one of its tuples is taken.
    pub(super) fn confirm(&mut self) -> HookVerdict {
        let Some(new) = self.unconfirmed() else { return HookVerdict::Accept };
        self.tracked.new = None;
        self.tracked.id = enter(self.state, new, self.now, &mut self.work);
        if self.tracked.id.is_some() {
            return HookVerdict::Accept;
        }
        count_stopped(&mut self.work, true);
        HookVerdict::Drop
    }
}

/// A packet is stopped, with the connection that it began if `began` is true.
pub(super) fn count_stopped(work: &mut Work, began: bool) {
    work[Unit::PathStopped] += 1;
    work[Unit::CtStopped] += u32::from(began);
}

/// Enters a connection: its entry, unless the packet is dropped.
pub(super) fn enter(state: &mut NodeState, new: New, now: SimTime, work: &mut Work) -> Option<ConnId> {
    match state.conntrack.confirm(new, now, work) {
        Confirmed::Entered(id) | Confirmed::Merged(id) | Confirmed::ReplyOnly(id) => Some(id),
        Confirmed::Clash | Confirmed::ChainTooLong => None,
    }
}
