//! States of a connection and how long each lasts.
//!
//! Source: behaviour of `net/netfilter/ipvs/ip_vs_proto_tcp.c` (`tcp_state_idx`, `set_tcp_state`, the state
//! and timeout tables), `ip_vs_proto_udp.c` and `ip_vs_proto_sctp.c`, Linux 6.12. Every connection starts inactive;
//! only a TCP connection between SYN and the first FIN and an established SCTP association count as active, so UDP
//! never does.
//!
//! Packets here have no SCTP chunks: while an association is set up a packet is taken for the chunk that is due
//! (INIT, INIT ACK, COOKIE ECHO, COOKIE ACK), one of the wrong side for a retransmission, and later ones for data.
//!
//! Left out: the tables against SYN floods (`secure_tcp`) and their state SYNACK, the end of SCTP associations, which
//! here only expire.

use sim_core::classify::{Packet, Proto, TcpFlags};
use sim_core::units::SimSpan;

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConnState {
    /// Just made.
    None,
    /// Both sides have agreed.
    Established,
    /// The server's SYN was seen first.
    SynSent,
    /// The client's SYN was seen.
    SynRecv,
    /// The server closed first.
    FinWait,
    /// Both sides closed.
    TimeWait,
    /// Reset or over.
    Close,
    /// The client closed first.
    CloseWait,
    /// Waiting for the last acknowledgement.
    LastAck,
    /// Nothing was ever opened.
    Listen,
    /// A UDP flow.
    Datagram,
    /// SCTP: the client's first INIT was seen.
    SctpInit1,
    /// SCTP: it was sent again.
    SctpInit,
    /// SCTP: the server sent its INIT ACK.
    SctpCookieSent,
    /// SCTP: the client echoed the cookie.
    SctpCookieReplied,
    /// SCTP: the server acknowledged the cookie.
    SctpEstablished,
    /// Not a connection: the server that a persistent client keeps.
    Template,
    /// A template whose server is gone; no client finds it any more.
    LostTemplate,
}

/// Time after which a template with living connections looks again.
pub const TEMPLATE_RECHECK: SimSpan = SimSpan::from_secs(60);

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Request,
    /// From the real server.
    Reply,
    /// From the client, where replies bypass this node (`IP_VS_CONN_F_NOOUTPUT`: direct routing and tunnels).
    RequestOnly,
}

/// Lifetimes that `ipvsadm --set` changes (`ip_vs_ctl.c:ip_vs_set_timeout`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Of established TCP connections.
    pub established: SimSpan,
    /// Of TCP connections after the server's FIN.
    pub fin_wait: SimSpan,
    /// Of UDP flows.
    pub udp: SimSpan,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            established: SimSpan::from_secs(900),
            fin_wait: SimSpan::from_secs(120),
            udp: SimSpan::from_secs(300),
        }
    }
}

impl Timeouts {
    /// What `ipvsadm --set` makes of the defaults: seconds, zero for no change.
    pub fn set(seconds: [u64; 3]) -> Self {
        let Timeouts { established, fin_wait, udp } = Timeouts::default();
        let or = |n: usize, kept| if seconds[n] == 0 { kept } else { SimSpan::from_secs(seconds[n]) };
        Timeouts { established: or(0, established), fin_wait: or(1, fin_wait), udp: or(2, udp) }
    }
}

impl ConnState {
    /// Whether a connection in this state counts as active (`tcp_state_active`, `set_sctp_state`).
    pub fn is_active(self) -> bool {
        use ConnState::{Established, SctpEstablished, SynRecv, SynSent};
        matches!(self, SynSent | SynRecv | Established | SctpEstablished)
    }

    /// Whether it is a template's.
    pub fn is_template(self) -> bool {
        matches!(self, ConnState::Template | ConnState::LostTemplate)
    }

    /// Whether the connection is over, so that a SYN opens another (`is_new_conn_expected`).
    pub fn is_over(self) -> bool {
        matches!(self, ConnState::TimeWait | ConnState::Close)
    }

    /// How long it lasts after its last packet.
    pub fn timeout(self, timeouts: &Timeouts) -> SimSpan {
        SimSpan::from_secs(match self {
            ConnState::Established => return timeouts.established,
            ConnState::FinWait => return timeouts.fin_wait,
            ConnState::Datagram => return timeouts.udp,
            ConnState::None => 2,
            ConnState::SynSent | ConnState::TimeWait | ConnState::Listen => 120,
            ConnState::SynRecv | ConnState::CloseWait => 60,
            ConnState::Close => 10,
            ConnState::LastAck => 30,
            ConnState::SctpInit1 => 4,
            // The longest retransmission time-out and a second.
            ConnState::SctpInit | ConnState::SctpCookieSent | ConnState::SctpCookieReplied => 61,
            ConnState::SctpEstablished => 900,
            ConnState::Template | ConnState::LostTemplate => 60,
        })
    }

    /// The state after `packet`.
    pub fn after(self, packet: &Packet, direction: Direction) -> ConnState {
        match packet.proto {
            Proto::Tcp => self.after_segment(packet.flags, direction),
            Proto::Sctp => self.after_chunk(direction),
            _ => ConnState::Datagram,
        }
    }

    /// The first of RST, SYN, FIN, ACK that is set decides; a segment without any closes.
    fn after_segment(self, flags: TcpFlags, direction: Direction) -> ConnState {
        use Direction::{Reply, Request, RequestOnly};
        match direction {
            Request | RequestOnly if flags.rst => self.after_client_reset(),
            Request | RequestOnly if flags.syn => self.after_client_syn(),
            Request if flags.fin => self.after_client_fin(),
            RequestOnly if flags.fin => self.after_unanswered_fin(),
            Request | RequestOnly if flags.ack => self.after_client_ack(),
            Reply if flags.rst => self.after_server_reset(),
            Reply if flags.syn => self.after_server_syn(),
            Reply if flags.fin => self.after_server_fin(),
            Reply if flags.ack => self.after_server_ack(),
            _ => Self::Close,
        }
    }

    fn after_chunk(self, direction: Direction) -> ConnState {
        match (self, direction == Direction::Reply) {
            (Self::None, false) => Self::SctpInit1,
            (Self::SctpInit1 | Self::SctpInit, false) => Self::SctpInit,
            (Self::SctpInit1 | Self::SctpInit, true) => Self::SctpCookieSent,
            (Self::SctpCookieSent, false) => Self::SctpCookieReplied,
            (Self::SctpCookieReplied, true) => Self::SctpEstablished,
            _ => self,
        }
    }

    fn after_client_reset(self) -> Self {
        match self {
            Self::SynRecv | Self::LastAck | Self::Listen => self,
            _ => Self::Close,
        }
    }
    fn after_client_syn(self) -> Self {
        match self {
            Self::Established | Self::SynSent => Self::Established,
            _ => Self::SynRecv,
        }
    }
    fn after_client_fin(self) -> Self {
        match self {
            Self::None => Self::Close,
            Self::Established => Self::CloseWait,
            Self::SynRecv | Self::FinWait => Self::TimeWait,
            _ => self,
        }
    }
    /// Where the server's FIN cannot be seen, the client's stands for both.
    fn after_unanswered_fin(self) -> Self {
        match self {
            Self::Established | Self::FinWait => Self::FinWait,
            _ => self.after_client_fin(),
        }
    }
    fn after_client_ack(self) -> Self {
        match self {
            Self::None | Self::SynRecv => Self::Established,
            Self::LastAck => Self::Close,
            _ => self,
        }
    }
    fn after_server_reset(self) -> Self {
        match self {
            Self::SynSent | Self::TimeWait => self,
            _ => Self::Close,
        }
    }
    fn after_server_syn(self) -> Self {
        match self {
            Self::Established | Self::SynRecv | Self::Listen => self,
            _ => Self::SynSent,
        }
    }
    fn after_server_fin(self) -> Self {
        match self {
            Self::None | Self::SynRecv | Self::CloseWait => Self::TimeWait,
            Self::Established => Self::FinWait,
            _ => self,
        }
    }
    fn after_server_ack(self) -> Self {
        match self {
            Self::None | Self::SynRecv | Self::Listen => Self::Established,
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_core::classify::TcpFlags;

    fn run(steps: &[(Direction, TcpFlags)]) -> ConnState {
        let base = Packet::tcp_syn("10.0.0.1".parse().unwrap(), 1, "10.0.0.2".parse().unwrap(), 2);
        steps.iter().fold(ConnState::None, |state, &(dir, flags)| state.after(&base.with_flags(flags), dir))
    }

    #[test]
    fn a_connection_opens_and_closes_through_the_usual_states() {
        use Direction::{Reply, Request};
        let open = [(Request, TcpFlags::SYN), (Reply, TcpFlags::SYN_ACK), (Request, TcpFlags::ACK)];
        assert_eq!(run(&open[..1]), ConnState::SynRecv);
        assert_eq!(run(&open[..2]), ConnState::SynRecv);
        assert_eq!(run(&open), ConnState::Established);
        let client_first = [&open[..], &[(Request, TcpFlags::FIN_ACK)]].concat();
        assert_eq!(run(&client_first), ConnState::CloseWait);
        let both = [&client_first[..], &[(Reply, TcpFlags::FIN_ACK), (Request, TcpFlags::ACK)]].concat();
        assert_eq!(run(&both), ConnState::TimeWait);
        let server_first = [&open[..], &[(Reply, TcpFlags::FIN_ACK)]].concat();
        assert_eq!(run(&server_first), ConnState::FinWait);
        let reset = TcpFlags { rst: true, ..TcpFlags::ACK };
        assert_eq!(run(&[&open[..], &[(Reply, reset)]].concat()), ConnState::Close);
    }

    /// Each row says, for every state in the order of [`TCP`], where one flag in one direction leads.
    #[test]
    fn every_flag_leads_every_state_where_the_kernel_lists_it() {
        use Direction::{Reply, Request, RequestOnly};
        let flag = |name: &str| TcpFlags {
            syn: name == "syn",
            fin: name == "fin",
            ack: name == "ack",
            rst: name == "rst",
            ..TcpFlags::NONE
        };
        let rows = [
            (Request, "syn", "SR ES ES SR SR SR SR SR SR SR"),
            (Request, "fin", "CL CW SS TW TW TW CL CW LA LI"),
            (Request, "ack", "ES ES SS ES FW TW CL CW CL LI"),
            (Request, "rst", "CL CL CL SR CL CL CL CL LA LI"),
            (Reply, "syn", "SS ES SS SR SS SS SS SS SS LI"),
            (Reply, "fin", "TW FW SS TW FW TW CL TW LA LI"),
            (Reply, "ack", "ES ES SS ES FW TW CL CW LA ES"),
            (Reply, "rst", "CL CL SS CL CL TW CL CL CL CL"),
            (RequestOnly, "syn", "SR ES ES SR SR SR SR SR SR SR"),
            (RequestOnly, "fin", "CL FW SS TW FW TW CL CW LA LI"),
            (RequestOnly, "ack", "ES ES SS ES FW TW CL CW CL LI"),
            (RequestOnly, "rst", "CL CL CL SR CL CL CL CL LA LI"),
            (Request, "none", "CL CL CL CL CL CL CL CL CL CL"),
            (Reply, "none", "CL CL CL CL CL CL CL CL CL CL"),
        ];
        let base = Packet::tcp_syn("10.0.0.1".parse().unwrap(), 1, "10.0.0.2".parse().unwrap(), 2);
        for (direction, name, expected) in rows {
            let packet = base.with_flags(flag(name));
            let got: Vec<&str> = TCP
                .iter()
                .map(|(state, _)| state.after(&packet, direction))
                .map(|after| TCP.iter().find(|(state, _)| *state == after).expect("a TCP state").1)
                .collect();
            assert_eq!(got.join(" "), expected, "{direction:?} {name}");
        }
    }

    const TCP: [(ConnState, &str); 10] = [
        (ConnState::None, "NO"),
        (ConnState::Established, "ES"),
        (ConnState::SynSent, "SS"),
        (ConnState::SynRecv, "SR"),
        (ConnState::FinWait, "FW"),
        (ConnState::TimeWait, "TW"),
        (ConnState::Close, "CL"),
        (ConnState::CloseWait, "CW"),
        (ConnState::LastAck, "LA"),
        (ConnState::Listen, "LI"),
    ];

    #[test]
    fn each_state_lasts_as_long_as_in_the_kernel_and_three_can_be_set() {
        let seconds = |timeouts: &Timeouts| TCP.map(|(s, _)| s.timeout(timeouts).as_ns() / 1_000_000_000);
        assert_eq!(seconds(&Timeouts::default()), [2, 900, 120, 60, 120, 120, 10, 60, 30, 120]);
        let set = Timeouts::set([500, 0, 40]);
        assert_eq!(seconds(&set), [2, 500, 120, 60, 120, 120, 10, 60, 30, 120]);
        assert_eq!(ConnState::Datagram.timeout(&set), SimSpan::from_secs(40));
        assert_eq!(ConnState::Datagram.timeout(&Timeouts::default()), SimSpan::from_secs(300));
    }

    #[test]
    fn an_sctp_association_is_active_once_its_cookie_is_acknowledged() {
        let packet = Packet {
            proto: Proto::Sctp,
            ..Packet::tcp_syn([10, 0, 0, 1].into(), 1, [10, 0, 0, 2].into(), 2)
        };
        let mut state = ConnState::None;
        let mut seen = Vec::new();
        use Direction::{Reply, Request};
        for direction in [Request, Request, Reply, Request, Request, Reply, Request] {
            state = state.after(&packet, direction);
            seen.push((state.timeout(&Timeouts::default()).as_ns() / 1_000_000_000, state.is_active()));
        }
        let setup = [(4, false), (61, false), (61, false), (61, false), (61, false)];
        assert_eq!(seen, [&setup[..], &[(900, true), (900, true)]].concat());
    }

    #[test]
    fn only_opening_and_open_tcp_connections_are_active() {
        let active = [ConnState::SynSent, ConnState::SynRecv, ConnState::Established];
        assert!(active.iter().all(|s| s.is_active()));
        let rest = [
            ConnState::None,
            ConnState::FinWait,
            ConnState::CloseWait,
            ConnState::TimeWait,
            ConnState::Datagram,
        ];
        assert!(!rest.iter().any(|s| s.is_active()));
    }
}
