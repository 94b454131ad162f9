//! `-m conntrack` with all its options (`net/netfilter/xt_conntrack.c`, revision 3).
//!
//! Left out: the state RELATED and the status EXPECTED, which no packet here has.

use super::{MatchExt, colon, not};
use crate::kernel::conntrack::Tuple;
use crate::kernel::dump::decimal;
use crate::kernel::hook::{CtState, PacketCx};
use crate::kernel::xtables::parse::args::{self, Args};
use crate::kernel::xtables::parse::matches;
use crate::kernel::xtables::parse::words::{Fault, Word, fault};
use crate::kernel::xtables::{CtStates, Match, Test, matching, print};
use ipnet::IpNet;
use sim_core::classify::{Family, Proto, Unit};
use std::fmt::{self, Write};
use std::net::SocketAddr;

/// The ends of a connection's two tuples, in the order in which they are printed.
const ENDS: [&str; 4] = ["origsrc", "origdst", "replsrc", "repldst"];
/// Statuses, with their bits in `enum ip_conntrack_status`.
const STATUSES: [(&str, u8); 4] = [("EXPECTED", 1), ("SEEN_REPLY", 2), ("ASSURED", 4), ("CONFIRMED", 8)];

/// Conditions; an absent one holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conntrack {
    /// `--ctstate`.
    pub states: Option<Test<CtStates>>,
    /// `--ctproto`.
    pub proto: Option<Test<u8>>,
    /// `--ctorigsrc`, `--ctorigdst`, `--ctreplsrc`, `--ctrepldst`.
    pub addrs: [Option<Test<IpNet>>; 4],
    /// `--ctorigsrcport` and so on: inclusive ranges.
    pub ports: [Option<Test<(u16, u16)>>; 4],
    /// `--ctstatus`, bits as in the kernel: EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED. None of them is NONE.
    pub status: Option<Test<u8>>,
    /// `--ctexpire`: seconds that the connection has left.
    pub expire: Option<Test<(u32, u32)>>,
    /// `--ctdir`: true for REPLY.
    pub reply: Option<bool>,
}

impl Conntrack {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        family: Family,
    ) -> Result<Option<Self>, Fault> {
        let mut read = Conntrack::default();
        while let Some((invert, option)) = args.option() {
            let word = args.value()?;
            match &*option.text {
                "--ctstate" => read.states = Some(Test { invert, value: matches::states(word)? }),
                "--ctproto" => match args::proto(&word.text) {
                    Some(proto) => read.proto = Some(Test { invert, value: proto.number() }),
                    None => return Ok(None),
                },
                "--ctstatus" => read.status = Some(Test { invert, value: status(word)? }),
                "--ctexpire" => read.expire = Some(Test { invert, value: seconds(word)? }),
                "--ctdir" if !invert => {
                    read.reply = Some(match &*word.text.to_ascii_uppercase() {
                        "ORIGINAL" => false,
                        "REPLY" => true,
                        _ => return fault(word.start, "a direction is ORIGINAL or REPLY"),
                    });
                }
                other => {
                    let Some(end) = other.strip_prefix("--ct") else { return Ok(None) };
                    if let Some(at) = ENDS.iter().position(|of| *of == end) {
                        let Some(value) = args::net(word, family)? else { return Ok(None) };
                        read.addrs[at] = Some(Test { invert, value });
                    } else if let Some(at) = ENDS.iter().position(|of| end.strip_suffix("port") == Some(*of))
                    {
                        read.ports[at] = Some(Test { invert, value: args::ports(word)? });
                    } else {
                        return Ok(None);
                    }
                }
            }
        }
        Ok((read != Conntrack::default()).then_some(read))
    }

    /// kube-proxy's form of it, if it is that.
    pub(in crate::kernel::xtables) fn narrow(&self) -> Option<Match> {
        let states = self.states?;
        let only = Conntrack { states: Some(states), ..Conntrack::default() };
        (*self == only).then_some(Match::Conntrack { states: states.value, invert: states.invert })
    }
}

fn status(word: &Word<'_>) -> Result<u8, Fault> {
    let mut bits = 0;
    for name in word.text.split(',') {
        match STATUSES.iter().find(|(known, _)| *known == name) {
            Some((_, bit)) => bits |= bit,
            None if name == "NONE" => {}
            None => {
                return fault(
                    word.start,
                    format!("{name:?} is no status: NONE, EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED"),
                );
            }
        }
    }
    Ok(bits)
}

fn seconds(word: &Word<'_>) -> Result<(u32, u32), Fault> {
    let (low, high) = word.text.split_once(':').unwrap_or((&word.text, &word.text));
    let low = if low.is_empty() { Some(0) } else { decimal(low) };
    let high = if high.is_empty() { Some(u32::MAX) } else { decimal(high) };
    match (low, high) {
        (Some(low), Some(high)) => Ok((low, high)),
        _ => fault(word.start, format!("{:?} is no time in seconds, or two with : between", word.text)),
    }
}

impl MatchExt for Conntrack {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(" conntrack")?;
        if let Some(Test { invert, value }) = self.states {
            write!(out, "{} --ctstate ", not(invert))?;
            print::write_states(value, out)?;
        }
        if let Some(Test { invert, value }) = self.proto {
            write!(out, "{} --ctproto {value}", not(invert))?;
        }
        for (name, addr) in ENDS.iter().zip(self.addrs) {
            let Some(Test { invert, value }) = addr else { continue };
            write!(out, "{} --ct{name} {}", not(invert), value.network())?;
            if value.prefix_len() != value.max_prefix_len() {
                write!(out, "/{}", value.prefix_len())?;
            }
        }
        for (name, ports) in ENDS.iter().zip(self.ports) {
            let Some(Test { invert, value: (low, high) }) = ports else { continue };
            write!(out, "{} --ct{name}port {}", not(invert), colon((low.into(), high.into())))?;
        }
        if let Some(Test { invert, value }) = self.status {
            let names = STATUSES.iter().filter(|(_, bit)| value & bit != 0).map(|(name, _)| *name);
            let names: Vec<&str> = names.collect();
            let names = if names.is_empty() { "NONE".to_owned() } else { names.join(",") };
            write!(out, "{} --ctstatus {names}", not(invert))?;
        }
        if let Some(Test { invert, value }) = self.expire {
            write!(out, "{} --ctexpire {}", not(invert), colon(value))?;
        }
        out.write_str(match self.reply {
            None => "",
            Some(false) => " --ctdir ORIGINAL",
            Some(true) => " --ctdir REPLY",
        })
    }

    fn bytes(&self) -> u64 {
        168
    }

    fn fits(&self, _: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchConntrack] += 1;
        if self.states.is_some_and(|t| matching::state_fits(t.value, &cx.ct) == t.invert) {
            return false;
        }
        let (CtState::New | CtState::Established | CtState::Related) = cx.ct.state else {
            // Of no connection nothing else is asked.
            return self.states.is_some();
        };
        if self.reply.is_some_and(|reply| reply != cx.ct.reply) {
            return false;
        }
        let (original, reply, conn) = match cx.flow {
            Some(flow) => (*flow.original, *flow.reply, flow.conn),
            None => (Tuple::of(&cx.packet), Tuple::of(&cx.packet).reversed(), None),
        };
        let ends = [original.src, original.dst, reply.src, reply.dst];
        let addr_fits = |(test, end): (Option<Test<IpNet>>, SocketAddr)| {
            test.is_none_or(|t| t.value.contains(&end.ip()) != t.invert)
        };
        let port_fits = |(test, end): (Option<Test<(u16, u16)>>, SocketAddr)| {
            test.is_none_or(|t| (t.value.0 <= end.port() && end.port() <= t.value.1) != t.invert)
        };
        let proto_fits = |t: Test<u8>| (Proto::number(original.proto) == t.value) != t.invert;
        let status = conn.map_or(0, |conn| {
            // A connection that the table has is confirmed.
            8 | u8::from(conn.is_answered()) << 1 | u8::from(conn.is_assured()) << 2
        });
        let left = conn.map_or(0, |conn| conn.seconds_left(cx.now));
        self.addrs.into_iter().zip(ends).all(addr_fits)
            && self.proto.is_none_or(proto_fits)
            && self.ports.into_iter().zip(ends).all(port_fits)
            && self.status.is_none_or(|t| (t.value & status != 0) != t.invert)
            && self.expire.is_none_or(|t| (t.value.0 <= left && left <= t.value.1) != t.invert)
    }
}
