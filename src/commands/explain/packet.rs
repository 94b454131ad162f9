//! The packets of the command line, and where they enter the node.

use super::node::Subject;
use crate::cli::{ExplainArgs, FlagArg, OriginArg};
use crate::commands::load::tell;
use crate::exit::Failure;
use scenarios::diagnostic::{Diagnostic, Diagnostics, did_you_mean};
use scenarios::tree::At;
use sim_core::classify::{Packet, Proto, TcpFlags};
use sim_models::kernel::path::Origin;
use sim_models::kube::objects::Objects;
use std::net::IpAddr;

/// The packets that were written, each wrong one told.
pub struct Written {
    /// `--packet`, with its flags and mark.
    pub packet: Packet,
    /// The first packet of a connection before it.
    pub flow: Option<Packet>,
}

/// Reads `--packet` and `--flow`.
pub fn written(args: &ExplainArgs) -> Result<Written, Failure> {
    let mut diagnostics = Diagnostics::default();
    let packet = parsed(&mut diagnostics, "--packet", &args.packet);
    let flow = args.flow.as_ref().map(|text| parsed(&mut diagnostics, "--flow", text));
    let (Some(packet), flow) = (packet, flow) else { return Err(tell(diagnostics)) };
    let flow = match flow {
        Some(None) => return Err(tell(diagnostics)),
        Some(Some(flow)) if flow.family() != packet.family() => {
            return Err(Failure::Input("error: --flow and --packet are of different families\n".into()));
        }
        Some(flow) => flow,
        None => args.established.then_some(packet),
    };
    let flags = match (&args.flags[..], packet.proto) {
        ([], Proto::Tcp) if flow.is_some() => TcpFlags::ACK,
        ([], _) => packet.flags,
        (flags, Proto::Tcp) => {
            let mut set = TcpFlags::default();
            for flag in flags {
                match flag {
                    FlagArg::Syn => set.syn = true,
                    FlagArg::Ack => set.ack = true,
                    FlagArg::Fin => set.fin = true,
                    FlagArg::Rst => set.rst = true,
                    FlagArg::Psh => set.psh = true,
                    FlagArg::Urg => set.urg = true,
                    FlagArg::None => {}
                }
            }
            set
        }
        (_, proto) => {
            return Err(Failure::Input(format!("error: --flags: a packet of {proto} has no TCP flags\n")));
        }
    };
    Ok(Written { packet: Packet { flags, mark: args.mark, ..packet }, flow })
}

fn parsed(diagnostics: &mut Diagnostics, option: &str, text: &str) -> Option<Packet> {
    text.parse::<Packet>()
        .map_err(|error| {
            let source = diagnostics.sources.add(option, text);
            let word = text.get(error.at.clone()).unwrap_or_default();
            let at = At { source, start: error.at.start, end: error.at.end };
            let mut diagnostic = Diagnostic::new(at, "", error.message.clone());
            if let Some(near) = did_you_mean(word, error.words.iter().copied()) {
                diagnostic = diagnostic.label(format!("did you mean `{near}`?"));
            }
            diagnostics.push(diagnostic.help(format!("allowed: {}", error.allowed)));
        })
        .ok()
}

/// Where a packet enters the node, as said or as its source lets guess.
pub fn origin(said: Option<OriginArg>, packet: &Packet, subject: &Subject) -> Origin {
    match said {
        Some(OriginArg::Pod) => Origin::Pod,
        Some(OriginArg::Wire) => Origin::Wire,
        Some(OriginArg::Host) => Origin::Host,
        None if packet.src.is_loopback() || subject.node_ips.contains(&packet.src) => Origin::Host,
        None => match subject.pods_of_node() {
            Some(is_here) if is_here(packet.src) => Origin::Pod,
            Some(_) => Origin::Wire,
            None => Origin::Pod,
        },
    }
}

/// The node that would see the packet first: its source's, or for one from outside the node whose address it goes to.
pub fn first_node<'a>(objects: &'a Objects, packet: &Packet) -> Option<&'a str> {
    let by_pod = |addr: IpAddr| {
        let pod = objects.pods.iter().find(|pod| !pod.host_network && pod.addresses.contains(&addr))?;
        pod.node.as_deref()
    };
    let by_address = |addr: IpAddr| objects.nodes.iter().find(|node| node.addresses.contains(&addr));
    let by_cidr = |addr: IpAddr| objects.nodes.iter().find(|n| n.pod_cidrs.iter().any(|c| c.contains(&addr)));
    by_pod(packet.src)
        .or_else(|| by_address(packet.src).or_else(|| by_cidr(packet.src)).map(|node| &*node.name))
        .or_else(|| by_address(packet.dst).map(|node| &*node.name))
}

/// In words.
pub fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Pod => "pod",
        Origin::Wire => "wire",
        Origin::Host => "host",
    }
}

/// The flags of a TCP packet.
pub fn flags_name(packet: &Packet) -> Option<String> {
    if packet.proto != Proto::Tcp {
        return None;
    }
    let flags = packet.flags;
    let all = [
        (flags.syn, "SYN"),
        (flags.ack, "ACK"),
        (flags.fin, "FIN"),
        (flags.rst, "RST"),
        (flags.psh, "PSH"),
        (flags.urg, "URG"),
    ];
    let set: Vec<&str> = all.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    Some(if set.is_empty() { "no flags".to_owned() } else { set.join(" ") })
}
