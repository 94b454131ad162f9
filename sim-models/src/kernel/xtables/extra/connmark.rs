//! `-m connmark` and `-j CONNMARK`: the mark of a connection (`net/netfilter/xt_connmark.c`, revisions 1 and 2).
//!
//! Left out: shifts (`--left-shift-mark`), which stay text.

use super::{MatchExt, TargetExt, not};
use crate::kernel::hook::{CtState, HookVerdict, PacketCx};
use crate::kernel::xtables::parse::args::{self, Args};
use crate::kernel::xtables::parse::words::{Fault, fault};
use sim_core::classify::{Family, Unit};
use std::fmt::{self, Write};

/// `--mark value/mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connmark {
    /// Value after masking.
    pub value: u32,
    /// Bits looked at.
    pub mask: u32,
    /// Negated.
    pub invert: bool,
}

/// What CONNMARK does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetConnmark {
    /// Connection's mark = (mark & !mask) ^ value.
    Set {
        /// Bits xored in.
        value: u32,
        /// Bits cleared first.
        mask: u32,
    },
    /// Connection's mark = (mark & !ct_mask) ^ (packet's & nf_mask).
    Save {
        /// Bits of the packet's mark.
        nf_mask: u32,
        /// Bits of the connection's.
        ct_mask: u32,
    },
    /// Packet's mark = (mark & !nf_mask) ^ (connection's & ct_mask).
    Restore {
        /// Bits of the packet's mark.
        nf_mask: u32,
        /// Bits of the connection's.
        ct_mask: u32,
    },
}

/// Whether the packet belongs to a connection that has a mark.
fn has_connection(cx: &PacketCx<'_>) -> bool {
    matches!(cx.ct.state, CtState::New | CtState::Established | CtState::Related)
}

impl Connmark {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        match args.option() {
            Some((invert, word)) if word.is("--mark") => {
                let (value, mask) = args::masked(args.value()?)?;
                Ok(args.all(Connmark { value, mask: mask.unwrap_or(u32::MAX), invert }))
            }
            _ => Ok(None),
        }
    }
}

impl MatchExt for Connmark {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        write!(out, " connmark{} --mark {:#x}", not(self.invert), self.value)?;
        if self.mask == u32::MAX { Ok(()) } else { write!(out, "/{:#x}", self.mask) }
    }

    fn bytes(&self) -> u64 {
        16
    }

    fn fits(&self, _: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchOther] += 1;
        has_connection(cx) && (cx.ct.mark & self.mask == self.value) != self.invert
    }
}

impl SetConnmark {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        let Some((false, option)) = args.option() else { return Ok(None) };
        let (mut nf_mask, mut ct_mask) = (u32::MAX, u32::MAX);
        let set = match &*option.text {
            "--save-mark" | "--restore-mark" => None,
            "--set-xmark" | "--set-mark" | "--or-mark" | "--and-mark" | "--xor-mark" => {
                Some(args::xmark(&option.text, args.value()?)?)
            }
            _ => return Ok(None),
        };
        while let Some((invert, option)) = args.option() {
            let masks: &mut [&mut u32] = match &*option.text {
                _ if invert || set.is_some() => return Ok(None),
                "--nfmask" => &mut [&mut nf_mask],
                "--ctmask" => &mut [&mut ct_mask],
                "--mask" => &mut [&mut nf_mask, &mut ct_mask],
                _ => return Ok(None),
            };
            let word = args.value()?;
            let value = args::number(word, &word.text)?;
            masks.iter_mut().for_each(|mask| **mask = value);
        }
        Ok(Some(match (set, &*option.text) {
            (Some((value, mask)), _) => SetConnmark::Set { value, mask },
            (None, "--save-mark") => SetConnmark::Save { nf_mask, ct_mask },
            (None, "--restore-mark") => SetConnmark::Restore { nf_mask, ct_mask },
            (None, other) => return fault(option.start, format!("{other} is no action of CONNMARK")),
        }))
    }
}

impl TargetExt for SetConnmark {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(" CONNMARK")?;
        match self {
            SetConnmark::Set { value, mask } => write!(out, " --set-xmark {value:#x}/{mask:#x}"),
            SetConnmark::Save { nf_mask, ct_mask } => {
                write!(out, " --save-mark --nfmask {nf_mask:#x} --ctmask {ct_mask:#x}")
            }
            SetConnmark::Restore { nf_mask, ct_mask } => {
                write!(out, " --restore-mark --nfmask {nf_mask:#x} --ctmask {ct_mask:#x}")
            }
        }
    }

    fn bytes(&self, _: Family) -> u64 {
        48
    }

    fn run(&self, cx: &mut PacketCx<'_>) -> Option<HookVerdict> {
        if !has_connection(cx) {
            return None;
        }
        let (packet, connection) = (&mut cx.packet.mark, &mut cx.ct.mark);
        match *self {
            SetConnmark::Set { value, mask } => *connection = (*connection & !mask) ^ value,
            SetConnmark::Save { nf_mask, ct_mask } => {
                *connection = (*connection & !ct_mask) ^ (*packet & nf_mask);
            }
            SetConnmark::Restore { nf_mask, ct_mask } => {
                *packet = (*packet & !nf_mask) ^ (*connection & ct_mask);
            }
        }
        None
    }
}
