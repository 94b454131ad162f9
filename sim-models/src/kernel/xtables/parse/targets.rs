//! The targets that are typed, each with the reader of its options. To type one more, write a reader and its line in
//! [`TARGETS`]; what has no line, or uses options that its reader does not know, stays text.

use super::args::{self, Args};
use super::words::{Fault, fault};
use crate::kernel::dump::decimal;
use crate::kernel::xtables::Target;
use sim_core::classify::Family;
use std::net::{IpAddr, SocketAddr};

/// Reads a target's options. `None`: some of them are not typed.
pub(super) type ReadTarget = fn(&mut Args<'_, '_>, Family) -> Result<Option<Target>, Fault>;

/// Name of the target, reader.
pub(super) const TARGETS: &[(&str, ReadTarget)] = &[
    ("ACCEPT", |args, _| Ok(args.all(Target::Accept))),
    ("DROP", |args, _| Ok(args.all(Target::Drop))),
    ("RETURN", |args, _| Ok(args.all(Target::Return))),
    ("DNAT", dnat),
    ("MARK", mark),
    ("MASQUERADE", masquerade),
    ("REDIRECT", redirect),
    ("REJECT", reject),
];

/// One port; a range or random ports stay text.
fn redirect(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Target>, Fault> {
    match args.option() {
        Some((false, word)) if word.is("--to-ports") => {}
        _ => return Ok(None),
    }
    let port = decimal(&args.value()?.text);
    Ok(args.all(()).and(port).map(|port| Target::Redirect { port }))
}

fn reject(args: &mut Args<'_, '_>, family: Family) -> Result<Option<Target>, Fault> {
    match args.option() {
        None => return Ok(Some(Target::Reject)),
        Some((false, word)) if word.is("--reject-with") => {}
        Some(_) => return Ok(None),
    }
    let kind = args.value()?;
    let usual = match family {
        Family::Ipv4 => ["icmp-port-unreachable", "port-unreach"],
        Family::Ipv6 => ["icmp6-port-unreachable", "port-unreach"],
    };
    Ok(args.all(Target::Reject).filter(|_| usual.contains(&&*kind.text)))
}

fn mark(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Target>, Fault> {
    let Some((false, option)) = args.option() else { return Ok(None) };
    // `extensions/libxt_MARK.c`: all are kept as value and mask of --set-xmark.
    let known = ["--set-xmark", "--set-mark", "--or-mark", "--and-mark", "--xor-mark"];
    if !known.contains(&&*option.text) {
        return Ok(None);
    }
    let word = args.value()?;
    let (value, mask) = args::masked(word)?;
    let (value, mask) = match (&*option.text, mask) {
        ("--set-xmark", mask) => (value, mask.unwrap_or(u32::MAX)),
        ("--set-mark", mask) => (value, mask.map_or(u32::MAX, |mask| value | mask)),
        ("--or-mark", None) => (value, value),
        ("--and-mark", None) => (0, !value),
        ("--xor-mark", None) => (value, 0),
        (option, Some(_)) => return fault(word.start, format!("{option} takes no mask")),
        (option, None) => unreachable!("{option} is in the list"),
    };
    Ok(args.all(Target::Mark { value, mask }))
}

fn masquerade(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Target>, Fault> {
    match args.option() {
        None => Ok(Some(Target::Masquerade { random_fully: false })),
        Some((false, word)) if word.is("--random-fully") => {
            Ok(args.all(Target::Masquerade { random_fully: true }))
        }
        Some(_) => Ok(None),
    }
}

fn dnat(args: &mut Args<'_, '_>, family: Family) -> Result<Option<Target>, Fault> {
    match args.option() {
        Some((false, word)) if word.is("--to-destination") => {}
        _ => return Ok(None),
    }
    let word = args.value()?;
    if let Ok(to) = word.text.parse::<SocketAddr>() {
        if Family::of(to.ip()) != family {
            return fault(word.start, format!("{to} is of the other family"));
        }
        return Ok(args.all(Target::Dnat(to)));
    }
    // Ranges, and addresses or ports alone, are not typed.
    let bare = word.text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if bare || word.text.contains('-') || word.text.starts_with(':') {
        return Ok(None);
    }
    fault(word.start, format!("{:?} is no destination like 10.244.0.5:8080 or [fd00::5]:8080", word.text))
}
