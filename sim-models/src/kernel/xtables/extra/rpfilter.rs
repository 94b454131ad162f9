//! `-m rpfilter`: whether the way back to the source leads over the device that the packet came in by
//! (`net/ipv4/netfilter/ipt_rpfilter.c`). Calico has it in table raw.
//!
//! Nobody lies about its address here: the way back is always the way that a packet came. Only a packet that comes in
//! from outside with an address of this node fails, unless `--accept-local` says otherwise.

use super::MatchExt;
use crate::kernel::hook::{Hook, PacketCx};
use crate::kernel::xtables::TableName;
use crate::kernel::xtables::check::Place;
use crate::kernel::xtables::parse::args::Args;
use crate::kernel::xtables::parse::words::Fault;
use sim_core::classify::{Family, Unit};
use std::fmt::{self, Write};

/// How the way back is looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rpfilter {
    /// `--loose`: any device will do.
    pub loose: bool,
    /// `--validmark`: with the packet's mark.
    pub valid_mark: bool,
    /// `--accept-local`.
    pub accept_local: bool,
    /// `--invert`.
    pub invert: bool,
}

impl Rpfilter {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        let mut read = Rpfilter::default();
        while let Some((invert, option)) = args.option() {
            match &*option.text {
                _ if invert => return Ok(None),
                "--loose" => read.loose = true,
                "--validmark" => read.valid_mark = true,
                "--accept-local" => read.accept_local = true,
                "--invert" => read.invert = true,
                _ => return Ok(None),
            }
        }
        Ok(Some(read))
    }
}

impl MatchExt for Rpfilter {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(" rpfilter")?;
        out.write_str(if self.loose { " --loose" } else { "" })?;
        out.write_str(if self.valid_mark { " --validmark" } else { "" })?;
        out.write_str(if self.accept_local { " --accept-local" } else { "" })?;
        out.write_str(if self.invert { " --invert" } else { "" })
    }

    fn bytes(&self) -> u64 {
        8
    }

    fn fits(&self, _: usize, cx: &mut PacketCx<'_>) -> bool {
        cx.work[Unit::MatchOther] += 1;
        let valid = cx.in_iface == "lo" || self.accept_local || !cx.is_local(cx.packet.src);
        valid != self.invert
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        if !matches!(at.table, TableName::Raw | TableName::Mangle) {
            return Some("it works in tables raw and mangle only".to_owned());
        }
        at.only(None, &[Hook::Prerouting])
    }
}
