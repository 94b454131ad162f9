//! The options of one match or target, and values in them.

use super::words::{Fault, Word, fault};
use crate::kernel::dump::decimal;
use ipnet::IpNet;
use sim_core::classify::{Family, Proto};
use smallvec::SmallVec;
use std::net::IpAddr;
use std::sync::Arc;

/// Words that belong to one extension.
pub(in crate::kernel::xtables) struct Args<'w, 'a> {
    pub(in crate::kernel::xtables) words: SmallVec<[&'w Word<'a>; 8]>,
    pub(in crate::kernel::xtables) at: usize,
    /// Where the extension begins, for faults about what is missing.
    pub(in crate::kernel::xtables) start: usize,
}

impl<'w, 'a> Args<'w, 'a> {
    /// The next option and whether `!` stands before it; `None` at the end.
    pub(in crate::kernel::xtables) fn option(&mut self) -> Option<(bool, &'w Word<'a>)> {
        let invert = self.words.get(self.at)?.is("!");
        self.at += usize::from(invert);
        let word = *self.words.get(self.at)?;
        self.at += 1;
        Some((invert, word))
    }

    /// The value of the option before.
    pub(in crate::kernel::xtables) fn value(&mut self) -> Result<&'w Word<'a>, Fault> {
        let Some(&word) = self.words.get(self.at) else {
            let (at, option) = match self.at.checked_sub(1).and_then(|last| self.words.get(last)) {
                Some(last) => (last.end, &*last.text),
                None => (self.start, "the option"),
            };
            return fault(at, format!("{option} has no value"));
        };
        self.at += 1;
        Ok(word)
    }

    /// Whether nothing is left.
    pub(in crate::kernel::xtables) fn done(&self) -> bool {
        self.at == self.words.len()
    }

    /// `value` if nothing is left, for extensions that may have more options than are typed.
    pub(in crate::kernel::xtables) fn all<T>(&self, value: T) -> Option<T> {
        self.done().then_some(value)
    }
}

/// A number, decimal or after `0x`.
pub(in crate::kernel::xtables) fn number(word: &Word<'_>, text: &str) -> Result<u32, Fault> {
    let parsed = match text.strip_prefix("0x") {
        // No sign may follow, which from_str_radix would take.
        Some(hex) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16).ok(),
        _ => decimal(text),
    };
    match parsed {
        Some(number) => Ok(number),
        None => fault(word.start, format!("{text:?} is no number of 32 bits, like 16384 or 0x4000")),
    }
}

/// `value/mask` or `value`.
pub(in crate::kernel::xtables) fn masked(word: &Word<'_>) -> Result<(u32, Option<u32>), Fault> {
    match word.text.split_once('/') {
        Some((value, mask)) => Ok((number(word, value)?, Some(number(word, mask)?))),
        None => Ok((number(word, &word.text)?, None)),
    }
}

/// The value and mask of `--set-xmark`, which is how all of these are kept
/// (`extensions/libxt_MARK.c`, `libxt_CONNMARK.c`).
pub(in crate::kernel::xtables) fn xmark(option: &str, word: &Word<'_>) -> Result<(u32, u32), Fault> {
    let (value, mask) = masked(word)?;
    match (option, mask) {
        ("--set-xmark", mask) => Ok((value, mask.unwrap_or(u32::MAX))),
        ("--set-mark", mask) => Ok((value, mask.map_or(u32::MAX, |mask| value | mask))),
        ("--or-mark", None) => Ok((value, value)),
        ("--and-mark", None) => Ok((0, !value)),
        ("--xor-mark", None) => Ok((value, 0)),
        (option, _) => fault(word.start, format!("{option} takes no mask")),
    }
}

/// Text to begin lines of a log with, of at most `most` bytes.
pub(in crate::kernel::xtables) fn prefix(word: &Word<'_>, most: usize) -> Result<Arc<str>, Fault> {
    if word.text.len() > most {
        return fault(word.start, format!("a text longer than {most} characters"));
    }
    Ok(shared(word))
}

/// `80` or `80:90`, the second not below the first.
pub(in crate::kernel::xtables) fn port_range(word: &Word<'_>) -> Result<(u16, u16), Fault> {
    match ports(word)? {
        (low, high) if low > high => {
            fault(word.start, format!("{} is no range of ports: it ends before it begins", word.text))
        }
        range => Ok(range),
    }
}

/// `80` or `80:90`.
pub(in crate::kernel::xtables) fn ports(word: &Word<'_>) -> Result<(u16, u16), Fault> {
    ports_in(word, &word.text)
}

/// The same in a part of a word.
pub(in crate::kernel::xtables) fn ports_in(word: &Word<'_>, text: &str) -> Result<(u16, u16), Fault> {
    let port = |text: &str| match decimal::<u16>(text) {
        Some(port) => Ok(port),
        None => fault(
            word.start,
            format!("{:?} is no port: a number from 0 to 65535, or two with : between", word.text),
        ),
    };
    match text.split_once(':') {
        Some((low, high)) => {
            let low = if low.is_empty() { 0 } else { port(low)? };
            Ok((low, if high.is_empty() { u16::MAX } else { port(high)? }))
        }
        None => port(text).map(|port| (port, port)),
    }
}

/// A protocol by name or number; `None` for a name that is not known.
pub(in crate::kernel::xtables) fn proto(text: &str) -> Option<Proto> {
    match decimal(text) {
        Some(number) => Some(Proto::from_number(number)),
        None => Proto::from_name(text),
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}

/// An address of `family`.
pub(in crate::kernel::xtables) fn addr(word: &Word<'_>, text: &str, family: Family) -> Result<IpAddr, Fault> {
    match text.parse::<IpAddr>() {
        Ok(addr) if Family::of(addr) == family => Ok(addr),
        _ => fault(word.start, format!("{text:?} is no {} address", family_name(family))),
    }
}

/// An address with or without a prefix length or mask; `None` if the mask is none that a prefix can say.
pub(in crate::kernel::xtables) fn net(word: &Word<'_>, family: Family) -> Result<Option<IpNet>, Fault> {
    let Some((base, mask)) = word.text.split_once('/') else {
        return addr(word, &word.text, family).map(|addr| Some(IpNet::from(addr)));
    };
    let base = addr(word, base, family)?;
    if let Some(net) = decimal(mask).and_then(|prefix| IpNet::new(base, prefix).ok()) {
        return Ok(Some(net));
    }
    match mask.parse::<IpAddr>() {
        Ok(mask) if Family::of(mask) == family => Ok(IpNet::with_netmask(base, mask).ok()),
        _ => fault(word.start, format!("{:?} has no prefix length or mask of its family", word.text)),
    }
}

/// Text that many rules share less often than not: one allocation.
pub(in crate::kernel::xtables) fn shared(word: &Word<'_>) -> Arc<str> {
    Arc::from(&*word.text)
}
