//! `-m tcp` with flags and options (`net/netfilter/xt_tcpudp.c:tcp_mt`).
//!
//! A fragment at eight bytes is an attempt to overwrite flags: it is dropped, like a packet that ends inside its header.
//!
//! Which options a packet has is not kept: those that Linux sends are taken, MSS, SACK, time stamps and scale on a SYN
//! and time stamps on every other packet.

use super::{MatchExt, not, only_for};
use crate::kernel::dump::decimal;
use crate::kernel::hook::PacketCx;
use crate::kernel::xtables::check::Place;
use crate::kernel::xtables::parse::args::{self, Args};
use crate::kernel::xtables::parse::words::{Fault, Word, fault};
use crate::kernel::xtables::{Match, Test, matching, print};
use sim_core::classify::{Family, Proto, Unit};
use std::fmt::{self, Write};

/// Flags by their bits.
const FLAGS: [&str; 6] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
/// What `--syn` stands for: FIN, SYN, RST and ACK looked at, SYN alone set.
const SYN: (u8, u8) = (0x17, 0x02);
/// Kinds of the options on Linux's SYN.
const ON_SYN: [u8; 5] = [1, 2, 3, 4, 8];
/// And on its other packets.
const ON_OTHERS: [u8; 2] = [1, 8];

/// Conditions; an absent one holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tcp {
    /// `--sport`.
    pub sport: Option<Test<(u16, u16)>>,
    /// `--dport`.
    pub dport: Option<Test<(u16, u16)>>,
    /// `--tcp-option`: the kind of an option that it has.
    pub option: Option<Test<u8>>,
    /// `--tcp-flags`: the bits looked at and those of them that are set.
    pub flags: Option<Test<(u8, u8)>>,
}

impl Tcp {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        let mut read = Tcp::default();
        while let Some((invert, option)) = args.option() {
            match &*option.text {
                "--sport" | "--source-port" => {
                    read.sport = Some(Test { invert, value: args::port_range(args.value()?)? });
                }
                "--dport" | "--destination-port" => {
                    read.dport = Some(Test { invert, value: args::port_range(args.value()?)? });
                }
                "--syn" => read.flags = Some(Test { invert, value: SYN }),
                "--tcp-flags" => {
                    let mask = flags(args.value()?)?;
                    read.flags = Some(Test { invert, value: (mask, flags(args.value()?)?) });
                }
                "--tcp-option" => {
                    let word = args.value()?;
                    match decimal(&word.text).filter(|&kind: &u8| kind > 0) {
                        Some(value) => read.option = Some(Test { invert, value }),
                        None => {
                            return fault(word.start, format!("{:?} is no option from 1 to 255", word.text));
                        }
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(read))
    }

    /// The form of it with ports alone, if it is that.
    pub(in crate::kernel::xtables) fn narrow(&self) -> Option<Match> {
        let Tcp { sport, dport, option, flags } = *self;
        let ports = Match::Ports { proto: Proto::Tcp, sport, dport };
        (option.is_none() && flags.is_none()).then_some(ports)
    }
}

fn flags(word: &Word<'_>) -> Result<u8, Fault> {
    match &*word.text {
        "ALL" => return Ok(0x3f),
        "NONE" => return Ok(0),
        _ => {}
    }
    word.text.split(',').try_fold(0, |bits, name| match FLAGS.iter().position(|flag| *flag == name) {
        Some(at) => Ok(bits | 1 << at),
        None => fault(word.start, format!("{name:?} is no flag: {}, ALL, NONE", FLAGS.join(", "))),
    })
}

fn write_flags(bits: u8, out: &mut dyn Write) -> fmt::Result {
    let names = FLAGS.iter().enumerate().filter(|(at, _)| bits & 1 << at != 0).map(|(_, name)| *name);
    let names: Vec<&str> = names.collect();
    if names.is_empty() { out.write_str(" NONE") } else { write!(out, " {}", names.join(",")) }
}

impl MatchExt for Tcp {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(" tcp")?;
        print::write_ports(self.sport, self.dport, out)?;
        if let Some(Test { invert, value }) = self.option {
            write!(out, "{} --tcp-option {value}", not(invert))?;
        }
        if let Some(Test { invert, value: (mask, set) }) = self.flags {
            write!(out, "{} --tcp-flags", not(invert))?;
            write_flags(mask, out)?;
            write_flags(set, out)?;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        16
    }

    fn fits(&self, _: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchPorts] += 1;
        if !matching::has_header(Proto::Tcp, cx) || !matching::ports_fit(&self.sport, &self.dport, &cx.packet)
        {
            return false;
        }
        let flags = cx.packet.flags;
        if self.flags.is_some_and(|t| (flags.bits() & t.value.0 == t.value.1) == t.invert) {
            return false;
        }
        let options = if flags.syn { &ON_SYN[..] } else { &ON_OTHERS[..] };
        self.option.is_none_or(|t| options.contains(&t.value) != t.invert)
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        only_for(&at, &[Proto::Tcp])
    }
}
