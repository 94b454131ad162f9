//! Matches and targets in the words in which kube-proxy gives them to iptables, which are not those of
//! [`xtables::print`](crate::kernel::xtables::print): `--or-mark` and `--xor-mark`, marks in eight digits, chances in
//! ten decimals, `REJECT` without its kind.
//!
//! Source: `pkg/proxy/iptables/proxier.go` and `pkg/proxy/ipvs/proxier.go`. Where addresses stand among the matches is
//! each mode's own: `iptables/restore.rs`, `ipvs/restore.rs`.

use crate::kernel::xtables::{CtStates, Match, Target};
use std::fmt::{self, Write};

/// ` !` where a test is negated.
pub(super) fn negation(invert: bool) -> &'static str {
    if invert { " !" } else { "" }
}

/// A match, with a blank before it. `left`: a chance is one in that many.
pub(super) fn write_match(m: &Match, left: usize, out: &mut String) -> fmt::Result {
    match m {
        // Names stand bare, sentences in quotes.
        Match::Comment(text) if text.contains(' ') => write!(out, " -m comment --comment \"{text}\""),
        Match::Comment(text) => write!(out, " -m comment --comment {text}"),
        Match::Statistic { .. } => {
            let chance = 1.0 / left as f64;
            write!(out, " -m statistic --mode random --probability {chance:.10}")
        }
        Match::Mark { value, mask, invert } => {
            write!(out, " -m mark{} --mark {value:#010x}/{mask:#010x}", negation(*invert))
        }
        Match::Conntrack { states, invert } => {
            write!(out, " -m conntrack{} --ctstate {}", negation(*invert), states_text(*states))
        }
        Match::AddrtypeLocal { src, invert } => {
            let side = if *src { "src" } else { "dst" };
            write!(out, " -m addrtype{} --{side}-type LOCAL", negation(*invert))
        }
        Match::Recent { name, set: true, .. } => write!(out, " -m recent --name {name} --set"),
        Match::Recent { name, set: false, seconds } => {
            write!(out, " -m recent --name {name} --rcheck")?;
            seconds.map_or(Ok(()), |seconds| write!(out, " --seconds {seconds} --reap"))
        }
        Match::Nfacct(name) => write!(out, " -m nfacct --nfacct-name {name}"),
        Match::Set { name, from_src, invert } => {
            let sides: Vec<_> = from_src.iter().map(|&src| if src { "src" } else { "dst" }).collect();
            write!(out, " -m set{} --match-set {name} {}", negation(*invert), sides.join(","))
        }
        Match::PhysdevIsIn { invert } => write!(out, " -m physdev{} --physdev-is-in", negation(*invert)),
        Match::IpvsVirtual { addr, port, proto } => {
            write!(out, " -m ipvs --vaddr {addr} --vproto {proto} --vport {port}")
        }
        other => panic!("{other:?} is no match that stands alone in kube-proxy's rules"),
    }
}

/// States in the order in which kube-proxy names them.
fn states_text(states: CtStates) -> String {
    let all = [
        (states.invalid, "INVALID"),
        (states.new, "NEW"),
        (states.related, "RELATED"),
        (states.established, "ESTABLISHED"),
        (states.dnat, "DNAT"),
    ];
    let set: Vec<&str> = all.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
    set.join(",")
}

/// A target other than a jump, which its table has to name, with a blank before it.
pub(super) fn write_target(target: &Target, out: &mut String) -> fmt::Result {
    match target {
        Target::Return => out.write_str(" -j RETURN"),
        Target::Accept => out.write_str(" -j ACCEPT"),
        Target::Drop => out.write_str(" -j DROP"),
        Target::Reject => out.write_str(" -j REJECT"),
        Target::Mark { value, mask: 0 } => write!(out, " -j MARK --xor-mark {value:#010x}"),
        Target::Mark { value, mask } if value == mask => write!(out, " -j MARK --or-mark {value:#010x}"),
        Target::Mark { value, mask } => write!(out, " -j MARK --set-xmark {value:#010x}/{mask:#010x}"),
        Target::Dnat(to) => write!(out, " -j DNAT --to-destination {to}"),
        Target::Masquerade { random_fully: true } => out.write_str(" -j MASQUERADE --random-fully"),
        Target::Masquerade { random_fully: false } => out.write_str(" -j MASQUERADE"),
        other => panic!("{other:?} is no verdict that kube-proxy writes"),
    }
}
