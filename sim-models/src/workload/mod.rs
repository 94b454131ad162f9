//! Clients and their connections.
//!
//! A class of clients opens connections from every node as a Poisson process, each from a client pod and a
//! source port of its own to a Service drawn at random. Arrivals, Services and ports come from streams that
//! know nothing of the proxy mode, so that every mode is driven by the same connections.
//!
//! A TCP connection is handshake, `requests` times request and answer, and close; a UDP one is request and
//! answer. What is lost is sent again ([`patience`]). Left out so far: congestion, messages of more than one packet.

pub mod patience;

use crate::control::log::PodId;
use sim_core::classify::{Packet, Proto, TcpFlags};
use sim_core::units::SimTime;
use std::net::SocketAddr;

/// Client pods on each node.
pub const CLIENT_PODS: usize = 8;
/// `net.ipv4.ip_local_port_range`.
pub const LOCAL_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// The packets of a connection, in the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Step {
    /// Client to server.
    Syn,
    /// Server to client.
    SynAck,
    /// Client to server, right before the first request.
    Ack,
    /// Client to server.
    Request,
    /// Server to client.
    Answer,
    /// Client to server.
    Fin,
    /// Server to client.
    FinAck,
    /// Client to server; nothing follows.
    LastAck,
    /// Server to client, from where nobody listens or knows of the connection.
    Reset,
}

impl Step {
    /// Whether the client sends it.
    pub fn from_client(self) -> bool {
        !matches!(self, Step::SynAck | Step::Answer | Step::FinAck | Step::Reset)
    }
    /// Its TCP flags.
    pub fn flags(self) -> TcpFlags {
        match self {
            Step::Syn => TcpFlags::SYN,
            Step::SynAck => TcpFlags::SYN_ACK,
            Step::Ack | Step::Request | Step::Answer | Step::LastAck => TcpFlags::ACK,
            Step::Fin | Step::FinAck => TcpFlags::FIN_ACK,
            Step::Reset => TcpFlags { rst: true, ..TcpFlags::ACK },
        }
    }
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Class of clients.
    pub class: u16,
    /// Node of the client pod.
    pub client_node: u32,
    /// Node of the server, `None` outside the cluster; known once the first packet was translated.
    pub server_node: Option<u32>,
    /// Protocol.
    pub proto: Proto,
    /// The client's socket.
    pub client: SocketAddr,
    /// The address that the client calls.
    pub service: SocketAddr,
    /// Index of the service port.
    pub port: u32,
    /// The peer as the server sees it, after masquerading.
    pub seen_client: SocketAddr,
    /// The server's socket.
    pub server: SocketAddr,
    /// The pod behind that socket when the first packet was translated.
    pub server_pod: Option<PodId>,
    /// The client's pod among those of its node.
    pub client_pod: u16,
    /// Requests still to be sent.
    pub requests_left: u32,
    /// Requests not yet answered.
    pub unanswered: u32,
    /// When the first packet was sent, of the first of several tries.
    pub started: SimTime,
    /// Since when the client waits for what it waits for: the handshake's answer, or that to a request.
    pub waiting_since: SimTime,
    /// Times that the packet that is under way was sent again.
    pub resent: u32,
    /// Whether the handshake is done.
    pub is_established: bool,
    /// Times that the client will try again if this fails.
    pub retries_left: u32,
    /// Whether it is such another try.
    pub is_retry: bool,
    /// Whether it began after the warm-up.
    pub measured: bool,
}

impl Connection {
    /// The packet of `step` as its sender emits it.
    pub fn packet(&self, step: Step) -> Packet {
        let (src, dst) =
            if step.from_client() { (self.client, self.service) } else { (self.server, self.seen_client) };
        let flags = if self.proto == Proto::Tcp { step.flags() } else { TcpFlags::default() };
        Packet { flags, ..Packet::new(self.proto, src.ip(), src.port(), dst.ip(), dst.port()) }
    }

    /// The first step of the connection's protocol.
    pub fn first_step(&self) -> Step {
        if self.proto == Proto::Tcp { Step::Syn } else { Step::Request }
    }
}
