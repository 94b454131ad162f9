//! Matches and targets that kube-proxy does not write but that stand beside its rules on nodes, one a file: its type,
//! its size in the kernel, its words, and what it does to a packet.
//!
//! To add one: a file with a type that is a [`MatchExt`] or [`TargetExt`] and has a `read`, its line in the list below,
//! and its name in `parse/matches.rs` or `parse/targets.rs`. What kube-proxy itself writes has its own variants of
//! [`Match`](super::Match) and [`Target`](super::Target); where an extension's reader finds one of those forms it
//! gives that, so that a rule has one form.

pub mod addrtype;
pub mod connmark;
pub mod conntrack;
pub mod header;
pub mod icmp;
pub mod iprange;
pub mod limit;
pub mod log;
pub mod mangle;
pub mod multiport;
pub mod nat;
pub mod nth;
pub mod physdev;
pub mod recent;
pub mod reject;
pub mod rpfilter;
pub mod set;
pub mod state;
pub mod tcp;
pub mod track;

use super::check::Place;
use crate::kernel::hook::{HookVerdict, PacketCx};
use sim_core::classify::{Family, Proto};
use std::fmt::{self, Write};

/// What a match has to say of itself.
pub trait MatchExt {
    /// Its words after `-m`, a blank before each, as `iptables-save` prints them.
    fn write(&self, family: Family, out: &mut dyn Write) -> fmt::Result;
    /// Bytes of its data in the kernel, aligned to 8.
    fn bytes(&self) -> u64;
    /// Whether the packet fits. `place` is its own among the matches that remember something.
    fn fits(&self, place: usize, cx: &mut PacketCx<'_>) -> bool;
    /// Why the kernel refuses it there (`checkentry`).
    fn refused(&self, at: Place) -> Option<String> {
        let _ = at;
        None
    }
}

/// What a target has to say of itself.
pub trait TargetExt {
    /// Its words after `-j`, a blank before each, as `iptables-save` prints them.
    fn write(&self, family: Family, out: &mut dyn Write) -> fmt::Result;
    /// Its name after `-j`.
    fn name(&self) -> String {
        let mut words = String::new();
        self.write(Family::Ipv4, &mut words).expect("a String takes everything");
        words.split_ascii_whitespace().next().unwrap_or_default().to_owned()
    }
    /// Bytes of the target in the kernel, header included, aligned to 8.
    fn bytes(&self, family: Family) -> u64;
    /// Does it. `None`: the walk continues with the next rule (`XT_CONTINUE`).
    fn run(&self, cx: &mut PacketCx<'_>) -> Option<HookVerdict>;
    /// Why the kernel refuses it there (`checkentry`).
    fn refused(&self, at: Place) -> Option<String> {
        let _ = at;
        None
    }
}

macro_rules! extensions {
    ($name:ident, $object:ident, $doc:literal: $($(#[doc = $about:literal])+ $variant:ident($of:ty),)+) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $about])+ $variant($of),)+
        }

        impl $name {
            /// What it says of itself.
            pub fn of(&self) -> &dyn $object {
                match self {
                    $($name::$variant(of) => of,)+
                }
            }
        }
    };
}

extensions! { ExtraMatch, MatchExt, "A match beside those of kube-proxy.":
    /// `-m addrtype` in full.
    Addrtype(addrtype::Addrtype),
    /// `-m connmark`.
    Connmark(connmark::Connmark),
    /// `-m conntrack` in full.
    Conntrack(conntrack::Conntrack),
    /// `-m icmp` and `-m icmp6`.
    Icmp(icmp::Icmp),
    /// `-m iprange`.
    Iprange(iprange::Iprange),
    /// `-m length`.
    Length(header::Length),
    /// `-m limit`.
    Limit(limit::Limit),
    /// `-m multiport`.
    Multiport(multiport::Multiport),
    /// `-m statistic --mode nth` and a negated `--mode random`.
    Statistic(nth::Statistic),
    /// `-m physdev` in full.
    Physdev(physdev::Physdev),
    /// `-m pkttype`.
    Pkttype(header::Pkttype),
    /// `-m recent` in full.
    Recent(recent::Recent),
    /// `-m rpfilter`.
    Rpfilter(rpfilter::Rpfilter),
    /// `-m set` with flags.
    Set(set::SetFlags),
    /// `-m state`, negated.
    NotState(state::NotState),
    /// `-m tcp` in full.
    Tcp(tcp::Tcp),
    /// `-m ttl` and `-m hl`.
    Ttl(header::Ttl),
}

extensions! { ExtraTarget, TargetExt, "A target beside those of kube-proxy.":
    /// `CHECKSUM`.
    Checksum(mangle::Checksum),
    /// `CONNMARK`.
    Connmark(connmark::SetConnmark),
    /// `LOG`.
    Log(log::Log),
    /// `SNAT`, `DNAT` to a range, `MASQUERADE` and `REDIRECT` with options.
    Nat(nat::Nat),
    /// `NFLOG`.
    Nflog(log::Nflog),
    /// `REJECT` with another answer than the usual one.
    Reject(reject::RejectWith),
    /// `TCPMSS`.
    Tcpmss(mangle::Tcpmss),
    /// `NOTRACK`, `CT --notrack`.
    Track(track::Notrack),
    /// `TRACE`.
    Trace(log::Trace),
    /// `TTL` and `HL`.
    Ttl(mangle::SetTtl),
}

impl ExtraMatch {
    /// Whether what it says follows from the packet, its connection and its devices alone, and asking changes nothing.
    /// Of a packet whose header is not there it may say more: that it is to be dropped.
    pub fn is_pure(&self) -> bool {
        match self {
            ExtraMatch::Addrtype(_)
            | ExtraMatch::Connmark(_)
            | ExtraMatch::Conntrack(_)
            | ExtraMatch::Icmp(_)
            | ExtraMatch::Iprange(_)
            | ExtraMatch::Length(_)
            | ExtraMatch::Multiport(_)
            | ExtraMatch::Physdev(_)
            | ExtraMatch::Pkttype(_)
            | ExtraMatch::Rpfilter(_)
            | ExtraMatch::NotState(_)
            | ExtraMatch::Tcp(_)
            | ExtraMatch::Ttl(_) => true,
            ExtraMatch::Limit(_) | ExtraMatch::Recent(_) | ExtraMatch::Set(_) | ExtraMatch::Statistic(_) => {
                false
            }
        }
    }
}

/// ` !` where a test is negated.
fn not(invert: bool) -> &'static str {
    if invert { " !" } else { "" }
}

/// `low` or `low:high`.
fn colon((low, high): (u32, u32)) -> String {
    if low == high { low.to_string() } else { format!("{low}:{high}") }
}

/// Whether a rule says `-p` with one of these, not negated: most extensions that look at ports need it.
pub(super) fn only_for(at: &Place, protocols: &[Proto]) -> Option<String> {
    let said = at.proto.filter(|test| !test.invert).map(|test| test.value);
    if said.is_some_and(|proto| protocols.contains(&proto)) {
        return None;
    }
    let names: Vec<String> = protocols.iter().map(|proto| format!("-p {proto}")).collect();
    Some(format!("it needs {}", names.join(" or ")))
}
