//! TCP's states as connection tracking sees them (`nf_conntrack_proto_tcp.c:nf_conntrack_tcp_packet`, `tcp_new`).
//!
//! The tracker stands between the two ends and guesses their states from flags. A packet moves the state, or is let
//! through without moving it (*ignored*: the entry may be out of step with the ends), or belongs to no connection
//! (*invalid*: it passes without NAT, and rules may drop it). A SYN on a connection that was closed removes it and
//! begins another.
//!
//! Left out: sequence numbers, so everything is inside the window and acknowledges what it should, nothing is known
//! to be a retransmission or unacknowledged (the 300 s of `timeout_max_retrans`), a window is never zero. The 300 s of
//! `timeout_unacknowledged` are those of a connection picked up in its middle and not yet answered.

use super::{ConntrackConfig, Direction};
use sim_core::classify::TcpFlags;
use sim_core::units::SimSpan;

/// State of a connection (`enum tcp_conntrack`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcpState {
    /// No packet yet.
    None,
    /// A SYN was seen.
    SynSent,
    /// Its answer too.
    SynRecv,
    /// And the acknowledgement of that.
    Established,
    /// One side has sent a FIN.
    FinWait,
    /// It was acknowledged.
    CloseWait,
    /// The other side has sent one too.
    LastAck,
    /// That was acknowledged.
    TimeWait,
    /// Reset.
    Close,
    /// Both sides have sent a SYN.
    SynSent2,
}

impl TcpState {
    /// Every state.
    pub const ALL: [TcpState; 10] = [
        TcpState::None,
        TcpState::SynSent,
        TcpState::SynRecv,
        TcpState::Established,
        TcpState::FinWait,
        TcpState::CloseWait,
        TcpState::LastAck,
        TcpState::TimeWait,
        TcpState::Close,
        TcpState::SynSent2,
    ];

    /// Its name in `/proc/net/nf_conntrack`.
    pub fn name(self) -> &'static str {
        match self {
            TcpState::None => "NONE",
            TcpState::SynSent => "SYN_SENT",
            TcpState::SynRecv => "SYN_RECV",
            TcpState::Established => "ESTABLISHED",
            TcpState::FinWait => "FIN_WAIT",
            TcpState::CloseWait => "CLOSE_WAIT",
            TcpState::LastAck => "LAST_ACK",
            TcpState::TimeWait => "TIME_WAIT",
            TcpState::Close => "CLOSE",
            TcpState::SynSent2 => "SYN_SENT2",
        }
    }

    /// How long a connection in this state lives without a packet.
    pub fn lifetime(self, config: &ConntrackConfig) -> SimSpan {
        match self {
            TcpState::Established => config.tcp_established,
            TcpState::CloseWait => config.tcp_close_wait,
            TcpState::SynRecv => SimSpan::from_secs(60),
            TcpState::LastAck => SimSpan::from_secs(30),
            TcpState::None | TcpState::Close => SimSpan::from_secs(10),
            TcpState::SynSent | TcpState::SynSent2 | TcpState::FinWait | TcpState::TimeWait => {
                SimSpan::from_secs(120)
            }
        }
    }

    /// Whether the connection is over or ending, so that a full table may do without it (`tcp_can_early_drop`).
    pub fn is_closing(self) -> bool {
        matches!(
            self,
            TcpState::FinWait
                | TcpState::LastAck
                | TcpState::TimeWait
                | TcpState::Close
                | TcpState::CloseWait
        )
    }
}

/// Lifetime of what was picked up and is not answered.
const UNACKNOWLEDGED: SimSpan = SimSpan::from_secs(300);

/// What a segment is for the tracker: the first of these flags that it has (`get_conntrack_index`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// SYN alone.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// FIN.
    Fin,
    /// ACK.
    Ack,
    /// RST, with whatever else.
    Rst,
    /// None of these.
    Bare,
}

impl Segment {
    /// Of a segment with these flags.
    pub fn of(flags: TcpFlags) -> Self {
        match flags {
            TcpFlags { rst: true, .. } => Segment::Rst,
            TcpFlags { syn: true, ack: true, .. } => Segment::SynAck,
            TcpFlags { syn: true, .. } => Segment::Syn,
            TcpFlags { fin: true, .. } => Segment::Fin,
            TcpFlags { ack: true, .. } => Segment::Ack,
            _ => Segment::Bare,
        }
    }
}

/// What a segment does to a state, by flags alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The state becomes this.
    To(TcpState),
    /// It passes; the state stays.
    Ignore,
    /// It belongs to no connection in that state.
    Invalid,
}

/// The move of `segment` (the table `tcp_conntracks`, by meaning).
pub fn movement(state: TcpState, direction: Direction, segment: Segment) -> Move {
    use Direction::{Original, Reply};
    use TcpState::{
        Close, CloseWait, Established, FinWait, LastAck, None, SynRecv, SynSent, SynSent2, TimeWait,
    };
    match segment {
        Segment::Bare => Move::Invalid,
        Segment::Rst if state == None => Move::Invalid,
        Segment::Rst => Move::To(Close),
        Segment::Syn => match (direction, state) {
            (Original, None | SynSent | TimeWait | Close) => Move::To(SynSent),
            (Original | Reply, SynSent2) | (Reply, SynSent) => Move::To(SynSent2),
            (Original, _) => Move::Ignore,
            (Reply, _) => Move::Invalid,
        },
        Segment::SynAck => match (direction, state) {
            (_, SynSent2) | (Reply, SynSent) => Move::To(SynRecv),
            (_, None) | (Original, SynSent) => Move::Invalid,
            _ => Move::Ignore,
        },
        Segment::Fin => match state {
            SynRecv | Established => Move::To(FinWait),
            FinWait | CloseWait | LastAck => Move::To(LastAck),
            TimeWait | Close => Move::To(state),
            None | SynSent | SynSent2 => Move::Invalid,
        },
        Segment::Ack => match (direction, state) {
            (Original, None | SynRecv) | (_, Established) => Move::To(Established),
            (Reply, SynRecv) => Move::To(SynRecv),
            (_, FinWait | CloseWait) => Move::To(CloseWait),
            (_, LastAck | TimeWait) => Move::To(TimeWait),
            (_, Close) => Move::To(Close),
            (Reply, SynSent | SynSent2) => Move::Ignore,
            (Reply, None) | (Original, SynSent | SynSent2) => Move::Invalid,
        },
    }
}

/// TCP's part of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Tracker {
    state: TcpState,
    last: (Segment, Direction),
    /// One side has begun to close (`IP_CT_TCP_FLAG_CLOSE_INIT`).
    close_begun: bool,
    /// Both sides have sent a SYN (`IP_CT_TCP_FLAG_SIMULTANEOUS_OPEN`).
    simultaneous: bool,
}

/// What a packet means for its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The entry lives this long from now, and is assured if true.
    Live(SimSpan, bool),
    /// The packet passes and nothing changes.
    Ignored,
    /// The packet is of no connection.
    Invalid,
    /// The packet passes and the entry goes: a reset as the only answer.
    Ended,
    /// The entry goes and the packet begins a new one.
    Reopened,
}

impl Tracker {
    /// Of a connection whose first packet has these flags; `None` if such a packet begins none.
    pub fn begin(flags: TcpFlags, config: &ConntrackConfig) -> Option<(Self, SimSpan)> {
        let segment = Segment::of(flags);
        let Move::To(state) = movement(TcpState::None, Direction::Original, segment) else { return None };
        let picked_up = state == TcpState::Established;
        if picked_up && !config.tcp_loose {
            return None;
        }
        let lifetime = state.lifetime(config);
        let tracker =
            Tracker { state, last: (segment, Direction::Original), close_begun: false, simultaneous: false };
        Some((tracker, if picked_up { lifetime.min(UNACKNOWLEDGED) } else { lifetime }))
    }

    /// The state.
    pub fn state(&self) -> TcpState {
        self.state
    }

    /// A packet of the connection. `answered` and `assured` are what the entry was before it.
    pub fn packet(
        &mut self,
        direction: Direction,
        flags: TcpFlags,
        (answered, assured): (bool, bool),
        config: &ConntrackConfig,
    ) -> Effect {
        let segment = Segment::of(flags);
        let (mut old, mut new) = (self.state, self.state);
        let mut ignored = false;
        match movement(old, direction, segment) {
            Move::Invalid => return Effect::Invalid,
            Move::Ignore => ignored = true,
            Move::To(TcpState::SynSent) if old >= TcpState::TimeWait => {
                if self.close_begun || self.last == (Segment::Rst, direction) {
                    return Effect::Reopened;
                }
                ignored = true;
            }
            Move::To(state) => new = state,
        }
        if ignored {
            let resolved =
                segment == Segment::SynAck && self.last.0 == Segment::Syn && self.last.1 != direction;
            if !resolved {
                self.last = (segment, direction);
                return Effect::Ignored;
            }
            // The answer to a SYN that was let through: both ends are in step, and the entry falls in.
            (old, new) = (TcpState::SynSent, TcpState::SynRecv);
            (self.close_begun, self.simultaneous) = (false, false);
        }
        if new == TcpState::SynSent2 {
            self.simultaneous = true;
        }
        if new == TcpState::SynRecv
            && direction == Direction::Reply
            && segment == Segment::Ack
            && self.simultaneous
        {
            new = TcpState::Established;
        }
        self.last = (segment, direction);
        self.state = new;
        self.close_begun |= old != new && new == TcpState::FinWait;
        let lifetime = new.lifetime(config);
        if !answered {
            if segment == Segment::Rst {
                return Effect::Ended;
            }
            let cut = new == TcpState::Established;
            return Effect::Live(if cut { lifetime.min(UNACKNOWLEDGED) } else { lifetime }, assured);
        }
        let both_ways = matches!(old, TcpState::SynRecv | TcpState::Established);
        Effect::Live(lifetime, assured || (both_ways && new == TcpState::Established))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Original, Reply};
    use Move::{Ignore, Invalid, To};
    use TcpState::{
        Close, CloseWait, Established, FinWait, LastAck, None, SynRecv, SynSent, SynSent2, TimeWait,
    };

    fn walk(steps: &[(Direction, Segment)]) -> TcpState {
        steps.iter().fold(None, |state, &(direction, segment)| match movement(state, direction, segment) {
            To(next) => next,
            Ignore | Invalid => state,
        })
    }

    #[test]
    fn a_connection_opens_and_closes_through_the_states_of_its_life() {
        use Segment::{Ack, Fin, Rst, Syn, SynAck};
        let steps = [
            (Original, Syn),
            (Reply, SynAck),
            (Original, Ack),
            (Reply, Ack),
            (Reply, Fin),
            (Original, Ack),
            (Original, Fin),
            (Reply, Ack),
        ];
        let states = [SynSent, SynRecv, Established, Established, FinWait, CloseWait, LastAck, TimeWait];
        for n in 0..steps.len() {
            assert_eq!(walk(&steps[..=n]), states[n], "after {n} steps");
        }
        for n in 1..=steps.len() {
            let reset = [&steps[..n], &[(Original, Rst)]].concat();
            assert_eq!(walk(&reset), Close);
        }
        assert_eq!(walk(&[(Original, Syn), (Reply, Syn), (Original, SynAck)]), SynRecv);
    }

    #[test]
    fn what_the_table_calls_invalid_or_ignores_moves_no_state() {
        use Segment::{Ack, Bare, Fin, Rst, Syn, SynAck};
        for (state, direction, segment, expected) in [
            (None, Original, SynAck, Invalid),
            (None, Original, Rst, Invalid),
            (None, Original, Fin, Invalid),
            (None, Original, Ack, To(Established)),
            (SynSent, Original, Ack, Invalid),
            (SynSent, Reply, Ack, Ignore),
            (SynSent, Original, SynAck, Invalid),
            (SynSent, Original, Fin, Invalid),
            (SynRecv, Original, Syn, Ignore),
            (SynRecv, Reply, Ack, To(SynRecv)),
            (Established, Original, Syn, Ignore),
            (Established, Reply, Syn, Invalid),
            (Established, Reply, SynAck, Ignore),
            (TimeWait, Original, Syn, To(SynSent)),
            (TimeWait, Reply, Syn, Invalid),
            (TimeWait, Original, Ack, To(TimeWait)),
            (Close, Reply, Fin, To(Close)),
            (SynSent2, Reply, Ack, Ignore),
            (SynSent2, Reply, SynAck, To(SynRecv)),
        ] {
            assert_eq!(movement(state, direction, segment), expected, "{state:?} {direction:?} {segment:?}");
        }
        for state in TcpState::ALL {
            assert_eq!(movement(state, Reply, Bare), Invalid);
            assert_eq!(movement(state, Original, Rst) == Invalid, state == None);
        }
    }

    #[test]
    fn a_connection_picked_up_is_short_lived_until_it_is_answered() {
        let config = ConntrackConfig::for_cores(1);
        let (mut t, lifetime) = Tracker::begin(TcpFlags::ACK, &config).unwrap();
        assert_eq!((t.state(), lifetime.as_secs_f64()), (Established, 300.0));
        let day = config.tcp_established;
        assert_eq!(
            t.packet(Reply, TcpFlags::ACK, (false, false), &config),
            Effect::Live(UNACKNOWLEDGED, false)
        );
        assert_eq!(t.packet(Original, TcpFlags::ACK, (true, false), &config), Effect::Live(day, true));
        let strict = ConntrackConfig { tcp_loose: false, ..config };
        assert!(Tracker::begin(TcpFlags::ACK, &strict).is_none());
        assert!(Tracker::begin(TcpFlags::SYN, &strict).is_some());
    }

    #[test]
    fn a_syn_reopens_what_was_closed_and_passes_what_only_the_server_has_reset() {
        let config = ConntrackConfig::for_cores(1);
        let rst = TcpFlags { rst: true, ..TcpFlags::ACK };
        let opened = || {
            let (mut t, _) = Tracker::begin(TcpFlags::SYN, &config).unwrap();
            t.packet(Reply, TcpFlags::SYN_ACK, (false, false), &config);
            t.packet(Original, TcpFlags::ACK, (true, false), &config);
            t
        };
        let known = (true, true);
        let mut closed = opened();
        for (direction, flags) in
            [(Original, TcpFlags::FIN_ACK), (Reply, TcpFlags::FIN_ACK), (Original, TcpFlags::ACK)]
        {
            closed.packet(direction, flags, known, &config);
        }
        assert_eq!(closed.state(), TimeWait);
        assert_eq!(closed.packet(Original, TcpFlags::SYN, known, &config), Effect::Reopened);
        let mut aborted = opened();
        aborted.packet(Original, rst, known, &config);
        assert_eq!(aborted.packet(Original, TcpFlags::SYN, known, &config), Effect::Reopened);
        // The server's reset may have been a stray: the client's SYN passes, and the server's answer brings the entry
        // back into step.
        let mut reset = opened();
        reset.packet(Reply, rst, known, &config);
        assert_eq!(reset.packet(Original, TcpFlags::SYN, known, &config), Effect::Ignored);
        let minute = SimSpan::from_secs(60);
        assert_eq!(reset.packet(Reply, TcpFlags::SYN_ACK, known, &config), Effect::Live(minute, true));
        assert_eq!(reset.state(), SynRecv);
    }
}
