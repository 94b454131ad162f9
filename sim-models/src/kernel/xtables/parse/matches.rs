//! The matches that are typed, each with the reader of its options. To type one more, write a reader and its line in
//! [`MATCHES`]; what has no line, or uses options that its reader does not know, stays text.

use super::args::{self, Args};
use super::words::{Fault, Word, fault};
use crate::kernel::dump::decimal;
use crate::kernel::xtables::extra::addrtype::Addrtype;
use crate::kernel::xtables::extra::connmark::Connmark;
use crate::kernel::xtables::extra::conntrack::Conntrack;
use crate::kernel::xtables::extra::header::{Length, Pkttype, Ttl};
use crate::kernel::xtables::extra::icmp::Icmp;
use crate::kernel::xtables::extra::iprange::Iprange;
use crate::kernel::xtables::extra::limit::Limit;
use crate::kernel::xtables::extra::multiport::Multiport;
use crate::kernel::xtables::extra::nth::Statistic;
use crate::kernel::xtables::extra::physdev::Physdev;
use crate::kernel::xtables::extra::recent::Recent;
use crate::kernel::xtables::extra::rpfilter::Rpfilter;
use crate::kernel::xtables::extra::set::SetFlags;
use crate::kernel::xtables::extra::state::NotState;
use crate::kernel::xtables::extra::tcp::Tcp;
use crate::kernel::xtables::{CtStates, ExtraMatch, Match, Test};
use sim_core::classify::{Family, Proto};

/// Reads a match's options. `None`: some of them are not typed.
pub(super) type ReadMatch = fn(&mut Args<'_, '_>, Family) -> Result<Option<Match>, Fault>;

/// Name of the extension, reader.
pub(super) const MATCHES: &[(&str, ReadMatch)] = &[
    ("comment", comment),
    ("tcp", |args, family| either(Tcp::read(args, family)?, Tcp::narrow, ExtraMatch::Tcp)),
    ("udp", |args, _| ports(args, Proto::Udp)),
    ("sctp", |args, _| ports(args, Proto::Sctp)),
    ("statistic", statistic),
    ("recent", recent),
    ("addrtype", addrtype),
    ("mark", mark),
    ("conntrack", conntrack),
    ("state", state),
    ("set", set),
    ("nfacct", nfacct),
    ("physdev", physdev),
    ("ipvs", ipvs),
    ("connmark", |args, family| Ok(Connmark::read(args, family)?.map(ExtraMatch::Connmark).map(boxed))),
    ("hl", |args, family| Ok(Ttl::read(args, family)?.map(ExtraMatch::Ttl).map(boxed))),
    ("icmp", |args, family| icmp(args, family, Family::Ipv4)),
    ("icmp6", |args, family| icmp(args, family, Family::Ipv6)),
    ("iprange", |args, family| Ok(Iprange::read(args, family)?.map(ExtraMatch::Iprange).map(boxed))),
    ("length", |args, family| Ok(Length::read(args, family)?.map(ExtraMatch::Length).map(boxed))),
    ("limit", |args, family| Ok(Limit::read(args, family)?.map(ExtraMatch::Limit).map(boxed))),
    ("multiport", |args, family| Ok(Multiport::read(args, family)?.map(ExtraMatch::Multiport).map(boxed))),
    ("pkttype", |args, family| Ok(Pkttype::read(args, family)?.map(ExtraMatch::Pkttype).map(boxed))),
    ("rpfilter", |args, family| Ok(Rpfilter::read(args, family)?.map(ExtraMatch::Rpfilter).map(boxed))),
    ("ttl", |args, family| Ok(Ttl::read(args, family)?.map(ExtraMatch::Ttl).map(boxed))),
];

fn boxed(extra: ExtraMatch) -> Match {
    Match::Extra(Box::new(extra))
}

/// In the form that kube-proxy writes where it is that, in full otherwise.
fn either<T>(
    read: Option<T>,
    narrow: impl Fn(&T) -> Option<Match>,
    full: impl Fn(T) -> ExtraMatch,
) -> Result<Option<Match>, Fault> {
    Ok(read.map(|read| narrow(&read).unwrap_or_else(|| boxed(full(read)))))
}

/// The name of one family's match says nothing in the other.
fn icmp(args: &mut Args<'_, '_>, family: Family, of: Family) -> Result<Option<Match>, Fault> {
    if family != of {
        return Ok(None);
    }
    Ok(Icmp::read(args, family)?.map(ExtraMatch::Icmp).map(boxed))
}

fn comment(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Match>, Fault> {
    match args.option() {
        Some((false, word)) if word.is("--comment") => {
            let text = args::shared(args.value()?);
            Ok(args.all(Match::Comment(text)))
        }
        _ => Ok(None),
    }
}

fn ports(args: &mut Args<'_, '_>, proto: Proto) -> Result<Option<Match>, Fault> {
    let (mut sport, mut dport) = (None, None);
    while let Some((invert, word)) = args.option() {
        let side = match &*word.text {
            "--sport" | "--source-port" => &mut sport,
            "--dport" | "--destination-port" => &mut dport,
            _ => return Ok(None),
        };
        let value = args::port_range(args.value()?)?;
        *side = Some(Test { invert, value });
    }
    Ok(Some(Match::Ports { proto, sport, dport }))
}

fn statistic(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Match>, Fault> {
    let (mut p, mut every, mut packet, mut negated) = (None, None, 0, false);
    while let Some((invert, option)) = args.option() {
        let word = args.value()?;
        match &*option.text {
            "--mode" if !invert && matches!(&*word.text, "random" | "nth") => {}
            "--probability" => {
                let has_sign = word.text.starts_with(['+', '-']);
                let probability =
                    word.text.parse::<f64>().ok().filter(|p| (0.0..=1.0).contains(p) && !has_sign);
                let Some(probability) = probability else {
                    return fault(word.start, format!("{:?} is no probability from 0 to 1", word.text));
                };
                // `extensions/libxt_statistic.c` stores lround of this.
                (p, negated) = (Some((probability * f64::from(1u32 << 31)).round() as u32), invert);
            }
            "--every" => match decimal(&word.text).filter(|&n: &u32| n > 0) {
                Some(n) => (every, negated) = (Some(n), invert),
                None => return fault(word.start, format!("{:?} is no number of packets", word.text)),
            },
            "--packet" if !invert => match decimal(&word.text) {
                Some(n) => packet = n,
                None => return fault(word.start, format!("{:?} is no number of packets", word.text)),
            },
            _ => return Ok(None),
        }
    }
    Ok(match (p, every) {
        (Some(p), None) if negated => Some(boxed(ExtraMatch::Statistic(Statistic::NotRandom { p }))),
        (Some(p), None) => Some(Match::Statistic { p }),
        (None, Some(every)) if packet < every => {
            Some(boxed(ExtraMatch::Statistic(Statistic::Nth { every, packet, invert: negated })))
        }
        (None, Some(_)) => return fault(args.start, "--packet is less than --every"),
        _ => None,
    })
}

fn recent(args: &mut Args<'_, '_>, family: Family) -> Result<Option<Match>, Fault> {
    either(Recent::read(args, family)?, |read| read.narrow(family), ExtraMatch::Recent)
}

fn addrtype(args: &mut Args<'_, '_>, family: Family) -> Result<Option<Match>, Fault> {
    either(Addrtype::read(args, family)?, Addrtype::narrow, ExtraMatch::Addrtype)
}

fn mark(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Match>, Fault> {
    match args.option() {
        Some((invert, word)) if word.is("--mark") => {
            let (value, mask) = args::masked(args.value()?)?;
            Ok(args.all(Match::Mark { value, mask: mask.unwrap_or(u32::MAX), invert }))
        }
        _ => Ok(None),
    }
}

fn conntrack(args: &mut Args<'_, '_>, family: Family) -> Result<Option<Match>, Fault> {
    either(Conntrack::read(args, family)?, Conntrack::narrow, ExtraMatch::Conntrack)
}

fn state(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Match>, Fault> {
    let (invert, list) = match args.option() {
        Some((invert, word)) if word.is("--state") => (invert, args.value()?),
        _ => return Ok(None),
    };
    let states = states(list)?;
    let not = || boxed(ExtraMatch::NotState(NotState(states)));
    Ok(args.all(if invert { not() } else { Match::State(states) }))
}

/// The states of a list.
pub(in crate::kernel::xtables) fn states(list: &Word<'_>) -> Result<CtStates, Fault> {
    let mut states = CtStates::default();
    for name in list.text.split(',') {
        match name {
            "INVALID" => states.invalid = true,
            "NEW" => states.new = true,
            "RELATED" => states.related = true,
            "ESTABLISHED" => states.established = true,
            "UNTRACKED" => states.untracked = true,
            "SNAT" => states.snat = true,
            "DNAT" => states.dnat = true,
            _ => {
                return fault(
                    list.start,
                    format!(
                        "{name:?} is no connection state: INVALID, NEW, RELATED, ESTABLISHED, UNTRACKED, SNAT, DNAT"
                    ),
                );
            }
        }
    }
    Ok(states)
}

fn set(args: &mut Args<'_, '_>, family: Family) -> Result<Option<Match>, Fault> {
    either(SetFlags::read(args, family)?, SetFlags::narrow, ExtraMatch::Set)
}

fn nfacct(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Match>, Fault> {
    match args.option() {
        Some((false, word)) if word.is("--nfacct-name") => {
            let name = args::shared(args.value()?);
            Ok(args.all(Match::Nfacct(name)))
        }
        _ => Ok(None),
    }
}

fn physdev(args: &mut Args<'_, '_>, family: Family) -> Result<Option<Match>, Fault> {
    either(Physdev::read(args, family)?, Physdev::narrow, ExtraMatch::Physdev)
}

fn ipvs(args: &mut Args<'_, '_>, family: Family) -> Result<Option<Match>, Fault> {
    let (mut addr, mut port, mut proto) = (None, None, None);
    while let Some((invert, word)) = args.option() {
        match &*word.text {
            _ if invert => return Ok(None),
            "--vaddr" => {
                let net = args::net(args.value()?, family)?;
                match net.filter(|net| net.prefix_len() == net.max_prefix_len()) {
                    Some(net) => addr = Some(net.addr()),
                    None => return Ok(None),
                }
            }
            "--vport" => match args::ports(args.value()?)? {
                (low, high) if low == high => port = Some(low),
                _ => return Ok(None),
            },
            "--vproto" => match args::proto(&args.value()?.text) {
                Some(known) => proto = Some(known),
                None => return Ok(None),
            },
            _ => return Ok(None),
        }
    }
    Ok(match (addr, port, proto) {
        (Some(addr), Some(port), Some(proto)) => Some(Match::IpvsVirtual { addr, port, proto }),
        _ => None,
    })
}
