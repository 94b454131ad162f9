//! Netfilter hooks: where rules run, in which order, and what they may see and change.
//!
//! Priorities are those of `include/uapi/linux/netfilter_ipv4.h`. A mechanism (xtables, nftables) says which
//! functions it registers ([`HookFn`]) and runs one of them over a [`PacketCx`]; the path of a packet through
//! the node ([`super::path`]) calls them in order and does conntrack and NAT around them.
//!
//! Left out: ARP, bridge and netdev families; `security` and connection-tracking helpers' hooks.

use super::conntrack::{Conn, Tuple};
use super::draw::{DrawKind, Script};
use super::ipset::IpSets;
use super::xtables::memory::Memory;
use super::xtables::recent::RecentTables;
use sim_core::classify::hash::reciprocal_scale;
use sim_core::classify::{Packet, Unit, Work};
use sim_core::rng::Stream;
use sim_core::units::SimTime;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// The five netfilter hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// Before delivery to this node.
    Input,
    /// Between two devices.
    Forward,
    /// Made on this node.
    Output,
    /// Before transmission.
    Postrouting,
}

impl Hook {
    /// All hooks in the kernel's order.
    pub const ALL: [Hook; 5] =
        [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];

    /// The name of the built-in chain that xtables gives this hook.
    pub fn chain_name(self) -> &'static str {
        match self {
            Hook::Prerouting => "PREROUTING",
            Hook::Input => "INPUT",
            Hook::Forward => "FORWARD",
            Hook::Output => "OUTPUT",
            Hook::Postrouting => "POSTROUTING",
        }
    }
}

/// Whether a hook function sees every packet or only the first of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Called by the NAT core for the first packet of a connection only (`nf_nat_core.c:nf_nat_inet_fn`).
    Nat,
}

/// A function that a mechanism registers at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookFn {
    /// Where.
    pub hook: Hook,
    /// Order among the hook's functions, lowest first.
    pub priority: i32,
    /// Who sees it.
    pub kind: ChainKind,
    /// The mechanism's own name for it: a table or base-chain index.
    pub id: usize,
}

/// Connection-tracking state of a packet, as `ctstate` and `ct state` see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CtState {
    /// First packet of a connection, or another of one that has no answer yet.
    New,
    /// Belongs to a connection that was answered, either direction.
    Established,
    /// An error about a connection: an ICMP message that quotes one of its packets.
    Related,
    /// Belongs to no connection and cannot start one.
    Invalid,
    /// Not tracked, because a rule said so.
    Untracked,
}

/// What rules may read and change of the packet's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtView {
    /// State of the packet in it.
    pub state: CtState,
    /// Whether the packet goes the way of the answers.
    pub reply: bool,
    /// Whether its destination was translated (`ctstate DNAT`, `ct status dnat`).
    pub dnat: bool,
    /// Whether its source was translated (`ctstate SNAT`, `ct status snat`).
    pub snat: bool,
    /// The connection's mark, which CONNMARK and `ct mark set` write.
    pub mark: u32,
}

impl CtView {
    /// The first packet of a connection.
    pub const NEW: CtView = CtView { state: CtState::New, reply: false, dnat: false, snat: false, mark: 0 };
}

/// What rules ask the NAT core to do with the connection of this packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatRequest {
    /// New destination.
    pub dnat: Option<SocketAddr>,
    /// Rewrite the source to an address of the outgoing device; `true` means with a fully random port.
    pub masquerade: Option<bool>,
    /// A binding that the two above cannot say: of the destination at PREROUTING and OUTPUT, of the source at
    /// POSTROUTING and INPUT.
    pub range: Option<NatRange>,
}

/// Addresses and ports that a binding may choose from (`struct nf_nat_range2`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NatRange {
    /// Which addresses.
    pub to: NatTo,
    /// First and last port; `None` lets it keep the port if that is free.
    pub ports: Option<(u16, u16)>,
    /// Port of the packet that gets the first port, the one after it the next (`--to-destination A:80-90/1080`).
    pub port_base: Option<u16>,
    /// `--random`: where the search for a port begins is drawn.
    pub random: bool,
    /// `--random-fully`: every port tried is drawn.
    pub random_fully: bool,
    /// `--persistent`: the address depends on the client's alone.
    pub persistent: bool,
}

/// Addresses of a [`NatRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NatTo {
    /// As it is: only ports are given.
    Same,
    /// From the first to the last of these.
    Addrs(IpAddr, IpAddr),
    /// The outgoing device's address (MASQUERADE).
    OutDevice,
    /// This machine: the incoming device's address, at OUTPUT loopback's (REDIRECT,
    /// `net/netfilter/nf_nat_redirect.c`).
    Here,
}

/// The connection of a packet beyond its [`CtView`].
#[derive(Clone, Copy, Debug)]
pub struct FlowRef<'a> {
    /// Tuple of its first direction, as it came.
    pub original: &'a Tuple,
    /// Tuple of the answers, as NAT has made it so far.
    pub reply: &'a Tuple,
    /// Its entry, once it is confirmed.
    pub conn: Option<&'a Conn>,
}

/// Ports of a bridge that a packet came in and goes out by, while bridge netfilter has it in its hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridged<'a> {
    /// The port it came in by.
    pub in_port: Option<&'a str>,
    /// The port it will leave by, which is known in FORWARD and POSTROUTING of a bridged packet only.
    pub out_port: Option<&'a str>,
}

/// The verdict of one hook function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookVerdict {
    /// Go on.
    Accept,
    /// Discard.
    Drop,
    /// Discard and tell the sender.
    Reject,
}

/// `get_random_u32()`: per-CPU batches of 24 numbers made by one ChaCha block (`drivers/char/random.c`).
#[derive(Clone, Debug)]
pub struct KernelRandom {
    stream: Stream,
    left: u32,
    script: Option<Box<Script>>,
}

impl KernelRandom {
    /// Numbers per refill: a 96-byte batch.
    pub const BATCH: u32 = 24;

    /// A generator drawing from `stream`.
    pub fn new(stream: Stream) -> Self {
        KernelRandom { stream, left: 0, script: None }
    }
    /// Puts a script in place, or takes it away; what stood there before.
    pub fn script(&mut self, script: Option<Box<Script>>) -> Option<Box<Script>> {
        std::mem::replace(&mut self.script, script)
    }
    /// One number; counts the draw and, once per batch, the refill.
    pub fn u32(&mut self, work: &mut Work) -> u32 {
        let bits = self.draw(work);
        if let Some(script) = &mut self.script {
            script.decide(DrawKind::Plain, bits);
        }
        bits
    }
    fn draw(&mut self, work: &mut Work) -> u32 {
        if self.left == 0 {
            self.left = Self::BATCH;
            work[Unit::RngRefills] += 1;
        }
        self.left -= 1;
        work[Unit::RngU32] += 1;
        self.stream.next_u32()
    }
    /// True with probability `p` / 2^31: the draw of `-m statistic --mode random`.
    pub fn chance(&mut self, p: u32, work: &mut Work) -> bool {
        let bits = self.draw(work);
        match &mut self.script {
            None => bits & 0x7fff_ffff < p,
            Some(script) => script.decide(DrawKind::Chance { p }, bits) == 0,
        }
    }
    /// A number below `n` by `reciprocal_scale`: the draw of `numgen random`.
    pub fn below(&mut self, n: u32, work: &mut Work) -> u32 {
        let bits = self.draw(work);
        match &mut self.script {
            None => reciprocal_scale(bits, n),
            Some(script) => script.decide(DrawKind::Below { n }, bits),
        }
    }
}

/// What is known about the node while its rules run.
#[derive(Clone, Debug, Default)]
pub struct NodeCx {
    /// Addresses of this node's own devices: with kube-ipvs0's, what `addrtype LOCAL` and `fib daddr type local`
    /// say yes to.
    pub local_addrs: BTreeSet<IpAddr>,
}

/// One packet inside the hooks, with everything that rules read, change and count.
pub struct PacketCx<'a> {
    /// Headers; rules change the mark, NAT the addresses.
    pub packet: Packet,
    /// The packet's connection, as rules see it.
    pub ct: CtView,
    /// Device it came in on, empty where there is none.
    pub in_iface: &'a str,
    /// Device it leaves by, empty where not yet known.
    pub out_iface: &'a str,
    /// The virtual address of the IPVS connection this packet belongs to, once IPVS has taken it.
    pub ipvs_virtual: Option<SocketAddr>,
    /// What NAT rules asked for.
    pub nat: NatRequest,
    /// The node.
    pub node: &'a NodeCx,
    /// Addresses of kube-ipvs0.
    pub dummy_addrs: &'a BTreeSet<IpAddr>,
    /// The node's ipsets.
    pub sets: &'a IpSets,
    /// Set by a rule: conntrack leaves this packet alone (NOTRACK, `CT --notrack`).
    pub notrack: bool,
    /// Set by a match that found the packet malformed: it is dropped whatever rules say (`xt_action_param`).
    pub hotdrop: bool,
    /// The connection's tuples, where they are known: without, a packet is taken for the first of a connection.
    pub flow: Option<FlowRef<'a>>,
    /// Ports of a bridge, where bridge netfilter handles the packet.
    pub bridge: Option<Bridged<'a>>,
    /// Lists of `-m recent`.
    pub recent: &'a mut RecentTables,
    /// What other matches remember: credits of `-m limit`, counts of `-m statistic --mode nth`.
    pub memory: &'a mut Memory,
    /// Now, for what ages.
    pub now: SimTime,
    /// The CPU's random numbers.
    pub random: &'a mut KernelRandom,
    /// Counters.
    pub work: &'a mut Work,
}

impl PacketCx<'_> {
    /// Whether `addr` is one of the node's own, loopback and kube-ipvs0 included.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        addr.is_loopback() || self.node.local_addrs.contains(&addr) || self.dummy_addrs.contains(&addr)
    }
}
