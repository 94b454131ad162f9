//! The targets that are typed, each with the reader of its options. To type one more, write a reader and its line in
//! [`TARGETS`]; what has no line, or uses options that its reader does not know, stays text.

use super::args::{self, Args};
use super::words::{Fault, fault};
use crate::kernel::xtables::extra::connmark::SetConnmark;
use crate::kernel::xtables::extra::log::{Log, Nflog, Trace};
use crate::kernel::xtables::extra::mangle::{Checksum, SetTtl, Tcpmss};
use crate::kernel::xtables::extra::nat::{self, Kind};
use crate::kernel::xtables::extra::reject::RejectWith;
use crate::kernel::xtables::extra::track::Notrack;
use crate::kernel::xtables::{ExtraTarget, Target};
use sim_core::classify::Family;

/// Reads a target's options. `None`: some of them are not typed.
pub(super) type ReadTarget = fn(&mut Args<'_, '_>, Family) -> Result<Option<Target>, Fault>;

/// Name of the target, reader.
pub(super) const TARGETS: &[(&str, ReadTarget)] = &[
    ("ACCEPT", |args, _| Ok(args.all(Target::Accept))),
    ("DROP", |args, _| Ok(args.all(Target::Drop))),
    ("RETURN", |args, _| Ok(args.all(Target::Return))),
    ("CHECKSUM", checksum),
    ("CONNMARK", |args, family| Ok(SetConnmark::read(args, family)?.map(ExtraTarget::Connmark).map(boxed))),
    ("CT", |args, family| Ok(Notrack::read_ct(args, family)?.map(ExtraTarget::Track).map(boxed))),
    ("DNAT", |args, family| nat::reader(Kind::Dnat)(args, family)),
    ("HL", |args, family| Ok(SetTtl::read(args, family)?.map(ExtraTarget::Ttl).map(boxed))),
    ("LOG", |args, family| Ok(Log::read(args, family)?.map(ExtraTarget::Log).map(boxed))),
    ("MARK", mark),
    ("MASQUERADE", |args, family| nat::reader(Kind::Masquerade)(args, family)),
    ("NFLOG", |args, family| Ok(Nflog::read(args, family)?.map(ExtraTarget::Nflog).map(boxed))),
    ("NOTRACK", |args, _| Ok(args.all(boxed(ExtraTarget::Track(Notrack { as_ct: false }))))),
    ("REDIRECT", |args, family| nat::reader(Kind::Redirect)(args, family)),
    ("REJECT", reject),
    ("SNAT", |args, family| nat::reader(Kind::Snat)(args, family)),
    ("TCPMSS", |args, family| Ok(Tcpmss::read(args, family)?.map(ExtraTarget::Tcpmss).map(boxed))),
    ("TRACE", |args, _| Ok(args.all(boxed(ExtraTarget::Trace(Trace))))),
    ("TTL", |args, family| Ok(SetTtl::read(args, family)?.map(ExtraTarget::Ttl).map(boxed))),
];

fn checksum(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Target>, Fault> {
    match args.option() {
        Some((false, word)) if word.is("--checksum-fill") => {
            Ok(args.all(boxed(ExtraTarget::Checksum(Checksum))))
        }
        _ => Ok(None),
    }
}

fn boxed(extra: ExtraTarget) -> Target {
    Target::Extra(Box::new(extra))
}

fn reject(args: &mut Args<'_, '_>, family: Family) -> Result<Option<Target>, Fault> {
    match args.option() {
        None => return Ok(Some(Target::Reject)),
        Some((false, word)) if word.is("--reject-with") => {}
        Some(_) => return Ok(None),
    }
    let kind = args.value()?;
    match RejectWith::named(&kind.text, family) {
        Some(None) => Ok(args.all(Target::Reject)),
        Some(Some(with)) => Ok(args.all(boxed(ExtraTarget::Reject(with)))),
        None => fault(kind.start, format!("{:?} is no answer of REJECT", kind.text)),
    }
}

fn mark(args: &mut Args<'_, '_>, _: Family) -> Result<Option<Target>, Fault> {
    let Some((false, option)) = args.option() else { return Ok(None) };
    let known = ["--set-xmark", "--set-mark", "--or-mark", "--and-mark", "--xor-mark"];
    if !known.contains(&&*option.text) {
        return Ok(None);
    }
    let (value, mask) = args::xmark(&option.text, args.value()?)?;
    Ok(args.all(Target::Mark { value, mask }))
}
