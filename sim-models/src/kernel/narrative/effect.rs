//! What a rule of xtables does with a packet: as an [`Effect`], and in words where its text alone leaves the reader to
//! look the target up.
//!
//! Left out: what follows later from it, as the address that NAT picks; that is a step of its own.

use super::event::Effect;
use crate::kernel::xtables::extra::connmark::SetConnmark;
use crate::kernel::xtables::extra::mangle::{SetTtl, Tcpmss};
use crate::kernel::xtables::extra::nat::Kind;
use crate::kernel::xtables::{ExtraTarget, Match, Rule, Target, opaque_name};

/// What `rule` does with a packet that came to it with `mark`.
pub(super) fn effect(rule: &Rule, mark: u32) -> Effect {
    match &rule.target {
        Some(Target::Mark { value, mask }) => Effect::Mark((mark & !mask) ^ value),
        Some(Target::Accept) => Effect::Accept,
        Some(Target::Dnat(_) | Target::Redirect { .. }) => Effect::Dnat,
        Some(Target::Masquerade { .. }) => Effect::Masquerade,
        Some(Target::Drop) => Effect::Drop,
        Some(Target::Reject) => Effect::Reject,
        Some(Target::Extra(extra)) => of_extra(extra),
        Some(Target::Opaque(_)) => Effect::Unknown,
        _ if rule.matches.iter().any(|m| matches!(m, Match::Recent { .. })) => Effect::Affinity,
        _ => Effect::Pass,
    }
}

fn of_extra(target: &ExtraTarget) -> Effect {
    match target {
        ExtraTarget::Nat(nat) => match nat.kind {
            Kind::Snat => Effect::Snat,
            Kind::Masquerade => Effect::Masquerade,
            Kind::Dnat | Kind::Redirect => Effect::Dnat,
        },
        ExtraTarget::Reject(_) => Effect::Reject,
        ExtraTarget::Connmark(_) => Effect::Connmark,
        ExtraTarget::Track(_) => Effect::Untracked,
        ExtraTarget::Log(_) | ExtraTarget::Nflog(_) | ExtraTarget::Trace(_) => Effect::Log,
        ExtraTarget::Checksum(_) | ExtraTarget::Tcpmss(_) | ExtraTarget::Ttl(_) => Effect::Header,
    }
}

/// The same in words; `None` where the text of the rule or the steps after it say it.
pub(super) fn words(rule: &Rule) -> Option<String> {
    match &rule.target {
        Some(Target::Redirect { port }) => {
            Some(format!("NAT is asked for this node itself as destination, port {port}"))
        }
        Some(Target::Extra(extra)) => Some(of_extra_in_words(extra)),
        Some(Target::Opaque(text)) => {
            Some(format!("what {} does is not modelled: taken to do nothing", opaque_name(text)))
        }
        _ => None,
    }
}

fn of_extra_in_words(target: &ExtraTarget) -> String {
    match target {
        ExtraTarget::Nat(nat) => match nat.kind {
            Kind::Snat => "NAT is asked for another source".to_owned(),
            Kind::Masquerade => "NAT is asked for this node's address as source".to_owned(),
            Kind::Dnat => "NAT is asked for another destination".to_owned(),
            Kind::Redirect => "NAT is asked for this node itself as destination".to_owned(),
        },
        ExtraTarget::Reject(with) => match with.name() {
            "tcp-reset" => "the sender gets a TCP reset".to_owned(),
            name => format!("the sender gets {name}"),
        },
        ExtraTarget::Connmark(SetConnmark::Set { value, mask: u32::MAX }) => {
            format!("the mark of its connection becomes {value:#x}")
        }
        ExtraTarget::Connmark(SetConnmark::Set { value, mask }) => {
            format!("the mark of its connection becomes {value:#x} within {mask:#x}")
        }
        ExtraTarget::Connmark(SetConnmark::Save { .. }) => {
            "its connection takes the packet's mark".to_owned()
        }
        ExtraTarget::Connmark(SetConnmark::Restore { .. }) => {
            "the packet takes the mark of its connection".to_owned()
        }
        ExtraTarget::Track(_) => {
            "no connection is made or looked up for it, so that NAT does not see it".to_owned()
        }
        ExtraTarget::Log(_) => "written to the kernel's log; goes on".to_owned(),
        ExtraTarget::Nflog(nflog) => format!("copied to netlink group {}; goes on", nflog.group),
        ExtraTarget::Trace(_) => "its rules are logged from here on".to_owned(),
        ExtraTarget::Checksum(_) => "its checksum is filled in".to_owned(),
        ExtraTarget::Tcpmss(Tcpmss::ClampToPmtu) => {
            "its maximum segment size is held to the path's".to_owned()
        }
        ExtraTarget::Tcpmss(Tcpmss::Set(size)) => format!("its maximum segment size becomes {size}"),
        ExtraTarget::Ttl(SetTtl::To(ttl)) => format!("its time to live becomes {ttl}"),
        ExtraTarget::Ttl(SetTtl::More(ttl)) => format!("its time to live grows by {ttl}"),
        ExtraTarget::Ttl(SetTtl::Less(ttl)) => format!("its time to live shrinks by {ttl}"),
    }
}
