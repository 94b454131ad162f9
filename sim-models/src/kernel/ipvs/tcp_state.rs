//! States of a connection and how long each lasts.
//!
//! Source: behaviour of `net/netfilter/ipvs/ip_vs_proto_tcp.c` (`tcp_state_idx`, `set_tcp_state`, the state
//! and timeout tables) and `ip_vs_proto_udp.c`, Linux 6.12. Every connection starts inactive; only a TCP
//! connection between SYN and the first FIN counts as active, so UDP never does.
//!
//! Left out: the defence tables against SYN floods, the table for replies that bypass this node (only used
//! without NAT), SCTP's own machine (its connections keep the plain timeout), changed timeouts.

use sim_core::classify::{Packet, Proto};
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
    /// A UDP or SCTP flow.
    Datagram,
    /// Not a connection: the server that a persistent client keeps.
    Template,
}

/// Lifetime of a connection before its first packet set a state.
pub const NEW_TIMEOUT: SimSpan = SimSpan::from_secs(3);
/// Time after which a template with living connections looks again.
pub const TEMPLATE_RECHECK: SimSpan = SimSpan::from_secs(60);

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Request,
    /// From the real server.
    Reply,
}

impl ConnState {
    /// Whether a connection in this state counts as active (`tcp_state_active`).
    pub fn is_active(self) -> bool {
        use ConnState::{Established, SynRecv, SynSent};
        matches!(self, SynSent | SynRecv | Established)
    }

    /// How long it lasts after its last packet.
    pub fn timeout(self) -> SimSpan {
        SimSpan::from_secs(match self {
            ConnState::None => 2,
            ConnState::Established => 900,
            ConnState::SynSent | ConnState::FinWait | ConnState::TimeWait | ConnState::Listen => 120,
            ConnState::SynRecv | ConnState::CloseWait => 60,
            ConnState::Close => 10,
            ConnState::LastAck => 30,
            ConnState::Datagram => 300,
            ConnState::Template => 60,
        })
    }

    /// The state after `packet`.
    pub fn after(self, packet: &Packet, direction: Direction) -> ConnState {
        if packet.proto != Proto::Tcp {
            return ConnState::Datagram;
        }
        let flags = packet.flags;
        // The first of RST, SYN, FIN, ACK that is set decides.
        match direction {
            Direction::Request if flags.rst => self.after_client_reset(),
            Direction::Request if flags.syn => self.after_client_syn(),
            Direction::Request if flags.fin => self.after_client_fin(),
            Direction::Request if flags.ack => self.after_client_ack(),
            Direction::Reply if flags.rst => self.after_server_reset(),
            Direction::Reply if flags.syn => self.after_server_syn(),
            Direction::Reply if flags.fin => self.after_server_fin(),
            Direction::Reply if flags.ack => self.after_server_ack(),
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
