//! `-j LOG`, `-j NFLOG` and `-j TRACE`: the packet is written somewhere, or will be with every rule that it matches, and
//! goes on (`net/netfilter/xt_LOG.c`, `xt_NFLOG.c`, `xt_TRACE.c`).
//!
//! Left out: what writing costs, which is far more than the rule and depends on where the log goes.

use super::TargetExt;
use crate::kernel::dump::decimal;
use crate::kernel::hook::{Hook, HookVerdict, PacketCx};
use crate::kernel::xtables::check::Place;
use crate::kernel::xtables::parse::args::{self, Args};
use crate::kernel::xtables::parse::words::{Fault, fault};
use crate::kernel::xtables::{TableName, print};
use sim_core::classify::Family;
use std::fmt::{self, Write};
use std::sync::Arc;

/// What is logged beside the headers, with the bits of `enum` in `linux/netfilter/xt_LOG.h`.
const FLAGS: [(&str, u8); 5] = [
    ("--log-tcp-sequence", 1),
    ("--log-tcp-options", 2),
    ("--log-ip-options", 4),
    ("--log-uid", 8),
    ("--log-macdecode", 32),
];
/// Levels of syslog.
const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"];

/// `LOG`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// Syslog's level, 4 (warning) if none is said.
    pub level: u8,
    /// What begins the line; empty for nothing.
    pub prefix: Arc<str>,
    /// Bits of what is logged beside.
    pub flags: u8,
}

/// `NFLOG`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nflog {
    /// Which netlink group hears of it.
    pub group: u16,
    /// What begins the message; empty for nothing.
    pub prefix: Arc<str>,
    /// Packets that are gathered before the group is told.
    pub threshold: u16,
}

/// `TRACE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trace;

impl TargetExt for Trace {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(" TRACE")
    }

    fn bytes(&self, _: Family) -> u64 {
        32
    }

    fn run(&self, _: &mut PacketCx<'_>) -> Option<HookVerdict> {
        None
    }

    fn refused(&self, at: Place<'_>) -> Option<String> {
        at.only(Some(TableName::Raw), &Hook::ALL)
    }
}

impl Log {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        let mut log = Log { level: 4, prefix: "".into(), flags: 0 };
        while let Some((invert, option)) = args.option() {
            match &*option.text {
                _ if invert => return Ok(None),
                "--log-level" => {
                    let word = args.value()?;
                    let named = |name: &str| match name {
                        "panic" => Some(0),
                        "warn" => Some(4),
                        _ => (0u8..).zip(LEVELS).find(|(_, known)| *known == name).map(|(level, _)| level),
                    };
                    match decimal(&word.text).filter(|&level| level < 8).or(named(&word.text)) {
                        Some(level) => log.level = level,
                        None => {
                            let names = LEVELS.join(", ");
                            return fault(
                                word.start,
                                format!("{:?} is no level: 0 to 7 or {names}", word.text),
                            );
                        }
                    }
                }
                "--log-prefix" => log.prefix = args::prefix(args.value()?, 29)?,
                other => match FLAGS.iter().find(|(name, _)| *name == other) {
                    Some((_, bit)) => log.flags |= bit,
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(log))
    }
}

impl TargetExt for Log {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(" LOG")?;
        if !self.prefix.is_empty() {
            out.write_str(" --log-prefix ")?;
            print::write_quoted(&self.prefix, out)?;
        }
        if self.level != 4 {
            write!(out, " --log-level {}", self.level)?;
        }
        FLAGS.iter().filter(|(_, bit)| self.flags & bit != 0).try_for_each(|(name, _)| write!(out, " {name}"))
    }

    fn bytes(&self, _: Family) -> u64 {
        64
    }

    fn run(&self, _: &mut PacketCx<'_>) -> Option<HookVerdict> {
        None
    }
}

impl Nflog {
    pub(in crate::kernel::xtables) fn read(
        args: &mut Args<'_, '_>,
        _: Family,
    ) -> Result<Option<Self>, Fault> {
        let mut log = Nflog { group: 0, prefix: "".into(), threshold: 0 };
        while let Some((invert, option)) = args.option() {
            match &*option.text {
                _ if invert => return Ok(None),
                "--nflog-prefix" => log.prefix = args::prefix(args.value()?, 63)?,
                "--nflog-group" | "--nflog-threshold" => {
                    let word = args.value()?;
                    let Some(value) = decimal(&word.text) else {
                        return fault(word.start, format!("{:?} is no number from 0 to 65535", word.text));
                    };
                    *(if option.is("--nflog-group") { &mut log.group } else { &mut log.threshold }) = value;
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(log))
    }
}

impl TargetExt for Nflog {
    fn write(&self, _: Family, out: &mut dyn Write) -> fmt::Result {
        out.write_str(" NFLOG")?;
        if !self.prefix.is_empty() {
            out.write_str(" --nflog-prefix ")?;
            print::write_quoted(&self.prefix, out)?;
        }
        if self.group != 0 {
            write!(out, " --nflog-group {}", self.group)?;
        }
        if self.threshold != 0 {
            write!(out, " --nflog-threshold {}", self.threshold)?;
        }
        Ok(())
    }

    fn bytes(&self, _: Family) -> u64 {
        112
    }

    fn run(&self, _: &mut PacketCx<'_>) -> Option<HookVerdict> {
        None
    }
}
