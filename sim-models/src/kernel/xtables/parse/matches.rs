//! The matches that are typed, each with the reader of its options. To type one more, write a reader and its line in
//! [`MATCHES`]; what has no line, or uses options that its reader does not know, stays text.

use super::args::{self, Args};
use super::words::{Fault, Word, fault};
use crate::kernel::xtables::{CtStates, Match, Test};
use sim_core::classify::{Family, Proto};

/// Reads a match's options. `None`: some of them are not typed.
pub(super) type ReadMatch = fn(&mut Args<'_, '_>, Family) -> Result<Option<Match>, Fault>;

/// Name of the extension, reader.
pub(super) const MATCHES: &[(&str, ReadMatch)] = &[
    ("comment", comment),
    ("tcp", |args, _| ports(args, Proto::Tcp)),
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
];

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
        let value = args::ports(args.value()?)?;
        *side = Some(Test { invert, value });
    }
    Ok(Some(Match::Ports { proto, sport, dport }))
}

fn statistic(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Match>, Fault> {
    let mut p = None;
    while let Some((invert, word)) = args.option() {
        match &*word.text {
            "--mode" if args.value()?.text == "random" => {}
            "--probability" if !invert => {
                let word = args.value()?;
                let has_sign = word.text.starts_with(['+', '-']);
                let probability =
                    word.text.parse::<f64>().ok().filter(|p| (0.0..=1.0).contains(p) && !has_sign);
                let Some(probability) = probability else {
                    return fault(word.start, format!("{:?} is no probability from 0 to 1", word.text));
                };
                // `extensions/libxt_statistic.c` stores lround of this.
                p = Some((probability * f64::from(1u32 << 31)).round() as u32);
            }
            _ => return Ok(None),
        }
    }
    Ok(p.map(|p| Match::Statistic { p }))
}

fn recent(args: &mut Args<'_, '_>, family: Family) -> Result<Option<Match>, Fault> {
    let (mut set, mut seconds, mut reap, mut name) = (None, None, false, None);
    while let Some((invert, word)) = args.option() {
        match &*word.text {
            _ if invert => return Ok(None),
            "--set" if set.is_none() => set = Some(true),
            "--rcheck" if set.is_none() => set = Some(false),
            "--seconds" => {
                let value = args.value()?;
                seconds = Some(args::number(value, &value.text)?);
            }
            "--reap" => reap = true,
            "--name" => name = Some(args::shared(args.value()?)),
            "--rsource" => {}
            "--mask" => {
                let word = args.value()?;
                let full = match family {
                    Family::Ipv4 => u128::from(u32::MAX),
                    Family::Ipv6 => u128::MAX,
                };
                let bits = match args::addr(word, &word.text, family)? {
                    std::net::IpAddr::V4(mask) => u128::from(u32::from(mask)),
                    std::net::IpAddr::V6(mask) => u128::from(mask),
                };
                if bits != full {
                    return Ok(None);
                }
            }
            _ => return Ok(None),
        }
    }
    let name = name.unwrap_or_else(|| "DEFAULT".into());
    Ok(match set {
        // Both or neither: what Recent means by `seconds`, and nothing with --set.
        Some(set) if seconds.is_some() == reap && !(set && reap) => {
            Some(Match::Recent { name, set, seconds })
        }
        _ => None,
    })
}

fn addrtype(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Match>, Fault> {
    let Some((invert, word)) = args.option() else { return Ok(None) };
    let src = match &*word.text {
        "--src-type" => true,
        "--dst-type" => false,
        _ => return Ok(None),
    };
    let local = args.value()?.text == "LOCAL";
    Ok(args.all(Match::AddrtypeLocal { src, invert }).filter(|_| local))
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

fn conntrack(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Match>, Fault> {
    let (invert, list) = match args.option() {
        Some((invert, word)) if word.is("--ctstate") => (invert, args.value()?),
        _ => return Ok(None),
    };
    let states = states(list)?;
    Ok(args.all(()).and(states).map(|states| Match::Conntrack { states, invert }))
}

fn state(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Match>, Fault> {
    let list = match args.option() {
        Some((false, word)) if word.is("--state") => args.value()?,
        _ => return Ok(None),
    };
    let states = states(list)?;
    Ok(args.all(()).and(states).map(Match::State))
}

/// The states of a list; `None` if one of them is not typed.
fn states(list: &Word<'_>) -> Result<Option<CtStates>, Fault> {
    let mut states = CtStates::default();
    let mut typed = true;
    for name in list.text.split(',') {
        match name {
            "INVALID" => states.invalid = true,
            "NEW" => states.new = true,
            "RELATED" => states.related = true,
            "ESTABLISHED" => states.established = true,
            "DNAT" => states.dnat = true,
            "UNTRACKED" | "SNAT" => typed = false,
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
    Ok(typed.then_some(states))
}

fn set(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Match>, Fault> {
    let invert = match args.option() {
        Some((invert, word)) if word.is("--match-set") => invert,
        _ => return Ok(None),
    };
    let name = args::shared(args.value()?);
    let flags = args.value()?;
    let side = |flag: &str| match flag {
        "src" => Ok(true),
        "dst" => Ok(false),
        _ => fault(flags.start, format!("{flag:?} is neither src nor dst")),
    };
    let from_src = flags.text.split(',').map(side).collect::<Result<_, _>>()?;
    Ok(args.all(Match::Set { name, from_src, invert }))
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

fn physdev(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Match>, Fault> {
    match args.option() {
        Some((invert, word)) if word.is("--physdev-is-in") => Ok(args.all(Match::PhysdevIsIn { invert })),
        _ => Ok(None),
    }
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
            "--vproto" => match args::proto(&args.value()?.text, family) {
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
