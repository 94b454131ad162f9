//! xtables rules as iptables-nft writes them into nf_tables: the same tables and chains, each rule as expressions.
//!
//! Source: iptables 1.8.9, `iptables/nft-ipv4.c:nft_ipv4_add`, `iptables/nft-ipv6.c:nft_ipv6_add`, `iptables/nft.c`
//! (`add_match`, `add_nft_tcpudp`, `add_nft_mark`, `add_action`), `iptables/nft-shared.c` (`add_addr`, `add_iniface`,
//! `add_l4proto`). The order is not that of the legacy walk: devices, then the protocol, then source and destination, then
//! the matches as written, then the counter that every rule has, and the target. Ports of tcp and udp and marks are
//! compared by nf_tables' own expressions; all else is an xtables match or target called from the rule
//! ([`XtMatch`], [`XtTarget`]). There are no entries that begin or end a chain: a user chain's end returns, a built-in
//! chain's is its policy.
//!
//! Left out: what [`crate::kernel::xtables::compile`] refuses; limits, which that version writes as nf_tables' own, are
//! called as a match here.

use super::compile::{CompiledChain, Layout};
use super::eval::{Engine, EngineError};
use super::expr::xt_match::XtMatch;
use super::expr::xt_target::XtTarget;
use super::expr::{
    Bitwise, Cmp, Counter, Expr, Immediate, Load, Log, Meta, MetaKey, Order, Payload, Range, Words, meta,
};
use super::linearize::{LinearRule, addr_len, port_word, prefix_test};
use super::tally::RULE_EXPRS_MAX;
use super::validate;
use super::{ChainId, Verdict};
use crate::kernel::hook::ChainKind;
use crate::kernel::ipset::IpSets;
use crate::kernel::options::{CompileOptions, Warning};
use crate::kernel::xtables::compile::{CompiledMatch, priority};
use crate::kernel::xtables::extra::tcp::Tcp;
use crate::kernel::xtables::{
    Calls, ExtraMatch, ExtraTarget, Match, Policy, Rule, Table, TableName, Target, Test, layout, opaque_name,
    print,
};
use sim_core::classify::{Family, Proto};
use std::sync::Arc;

/// Bits of the fragment's offset in the IPv4 header (`IP_OFFSET`).
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// First data register.
const R1: u8 = 0;

impl Engine {
    /// The engine of these tables, all of one family, as iptables-nft would load them. Chains are numbered through all
    /// tables in order.
    ///
    /// # Errors
    /// If a rule refers to what is not there or uses what is not modelled, or jumps nest deeper than the kernel allows.
    pub fn from_xtables(
        tables: &[Table],
        sets: &IpSets,
        seed: u64,
        options: CompileOptions,
    ) -> Result<Engine, EngineError> {
        let family = tables.first().map_or(Family::Ipv4, |t| t.family);
        let mut engine = Engine::empty(family, seed);
        let mut calls = Calls::new(sets, options);
        let mut first = 0;
        for (at, table) in (0u32..).zip(tables) {
            engine.places.extend((0..table.chains.len() as u32).map(|chain| (at, chain)));
            let hooks = calls.hooks(table)?;
            let writer = Writer { table, first };
            let mut chains = Vec::with_capacity(table.chains.len());
            for (at, chain) in table.chains.iter().enumerate() {
                let number = first + u32::try_from(at).expect("fewer than 2^32 chains");
                let mut layout = Layout::new(family, seed, number, chain.rules.len());
                for (at_rule, rule) in chain.rules.iter().enumerate() {
                    let calls = calls.matches(table, (&chain.name, hooks[at]), (at_rule, rule))?;
                    layout.rule(writer.rule(rule, calls, &chain.name)?, None);
                }
                chains.push(layout.finish(&mut engine.codes));
            }
            let refused = |why| EngineError::Table { table: table.name.name().into(), why };
            check_jumps(table, &chains, first).map_err(refused)?;
            first += u32::try_from(chains.len()).expect("fewer than 2^32 chains");
            for (chain, mut compiled) in table.chains.iter().zip(chains) {
                compiled.drops = chain.base.is_some_and(|(_, policy)| policy == Policy::Drop);
                let kind = if table.name == TableName::Nat { ChainKind::Nat } else { ChainKind::Filter };
                let base = chain.base.map(|(hook, _)| (hook, priority(table.name, hook), kind));
                engine.push_chain(&chain.name, compiled, base);
            }
        }
        let (lists, warnings) = calls.finish();
        engine.lists = Some(lists);
        engine.warnings = warnings.into_iter().map(Warning::Xtables).collect();
        Ok(engine)
    }
}

/// The expressions of one rule of `table`, as [`Engine::from_xtables`] puts them into a chain.
///
/// # Errors
/// As for [`Engine::from_xtables`].
pub fn expressions(table: &Table, rule: &Rule, sets: &IpSets) -> Result<Vec<Expr>, EngineError> {
    let calls = Calls::new(sets, CompileOptions::default()).matches(table, ("", 0), (0, rule))?;
    Ok(Writer { table, first: 0 }.rule(rule, calls, "")?.exprs)
}

/// No path of jumps from a built-in chain may be longer than the jump stack, or lead in a circle.
fn check_jumps(table: &Table, chains: &[CompiledChain], first: u32) -> Result<(), String> {
    let targets = |i: usize| -> Vec<usize> {
        let exprs = chains[i].code.exprs.iter();
        let to = exprs.filter_map(|placed| match placed.expr {
            Expr::Immediate(Immediate::Verdict(Verdict::Jump(to) | Verdict::Goto(to))) => Some(to),
            _ => None,
        });
        to.map(|to| (to.0 - first) as usize).collect()
    };
    validate::jumps(
        table.chains.len(),
        |i| table.chains[i].base.is_some(),
        |i| &table.chains[i].name,
        targets,
    )
}

struct Writer<'a> {
    table: &'a Table,
    /// Number of the table's first chain.
    first: u32,
}

impl Writer<'_> {
    /// `calls` are the rule's matches, compiled.
    fn rule(&self, rule: &Rule, calls: Vec<CompiledMatch>, chain: &str) -> Result<LinearRule, EngineError> {
        let family = self.table.family;
        let mut out = Vec::new();
        for (test, key) in [(&rule.in_iface, MetaKey::IifName), (&rule.out_iface, MetaKey::OifName)] {
            if let Some(test) = test {
                device(test, key, &mut out);
            }
        }
        if let Some(Test { invert, value }) = rule.proto {
            out.push(Expr::Meta(Meta::Load { key: MetaKey::L4Proto, dreg: R1 }));
            out.push(word(u32::from(value.number()), invert));
        }
        for (test, load) in [(rule.src, Load::SrcAddr), (rule.dst, Load::DstAddr)] {
            if let Some(Test { invert, value }) = test.filter(|t| t.value.prefix_len() > 0) {
                out.extend(prefix_test(load, value, invert, addr_len(family)));
            }
        }
        if let Some(later) = rule.fragment {
            out.push(Expr::Payload(Payload { load: Load::Fragment, len: 2, dreg: R1 }));
            let mask = port_word(FRAGMENT_OFFSET);
            out.push(Expr::Bitwise(Bitwise::Word { sreg: R1, dreg: R1, mask, xor: 0 }));
            out.push(word(0, later));
        }
        for (m, call) in rule.matches.iter().zip(calls) {
            self.one_match(m, call, &mut out);
        }
        out.push(Expr::Counter(Counter));
        if let Some(target) = &rule.target {
            out.push(self.target(target));
        }
        if out.len() > RULE_EXPRS_MAX {
            let why =
                format!("chain {chain}: a rule of {} expressions, of at most {RULE_EXPRS_MAX}", out.len());
            return Err(EngineError::Table { table: self.table.name.name().into(), why });
        }
        Ok(LinearRule { exprs: out, anonymous: Vec::new() })
    }

    fn one_match(&self, m: &Match, call: CompiledMatch, out: &mut Vec<Expr>) {
        match m {
            Match::Ports { proto: Proto::Tcp | Proto::Udp, sport, dport }
                if sport.is_some() || dport.is_some() =>
            {
                ports(*sport, *dport, out);
            }
            &Match::Mark { value, mask, invert } => {
                out.push(Expr::Meta(Meta::Load { key: MetaKey::Mark, dreg: R1 }));
                if mask != u32::MAX {
                    out.push(Expr::Bitwise(Bitwise::Word { sreg: R1, dreg: R1, mask, xor: 0 }));
                }
                out.push(word(value, invert));
            }
            Match::Extra(extra)
                if let ExtraMatch::Tcp(tcp) = &**extra
                    && tcp.option.is_none() =>
            {
                tcp_flags(tcp, out)
            }
            _ => {
                let mut text = String::new();
                print::write_match(m, self.table.family, &mut text).expect("a string takes any text");
                out.push(Expr::XtMatch(Box::new(XtMatch {
                    call: Arc::new(call),
                    name: kernel_match(opaque_name(&text)),
                    data: u32::try_from(layout::match_bytes(m, self.table.family) - 32).expect("small"),
                    reads_data: !matches!(m, Match::Comment(_)),
                })));
            }
        }
    }

    fn target(&self, target: &Target) -> Expr {
        let verdict = |v| Expr::Immediate(Immediate::Verdict(v));
        let to = |id: u32| ChainId(self.first + id);
        let name = match target {
            Target::Accept => return verdict(Verdict::Accept),
            Target::Drop => return verdict(Verdict::Drop),
            Target::Return => return verdict(Verdict::Return),
            Target::Jump(id) => return verdict(Verdict::Jump(to(id.0))),
            Target::Goto(id) => return verdict(Verdict::Goto(to(id.0))),
            Target::Reject => ("REJECT", 0),
            Target::Mark { .. } => ("MARK", 2),
            Target::Dnat(_) => ("DNAT", 2),
            Target::Masquerade { .. } => ("MASQUERADE", 0),
            Target::Redirect { .. } => ("REDIRECT", 0),
            Target::Extra(extra) => match &**extra {
                ExtraTarget::Nflog(_) => return Expr::Log(Log),
                other => kernel_target(&other.of().name()),
            },
            Target::Opaque(_) => ("other", 0),
        };
        let data = layout::target_bytes(Some(target), self.table.family) - 32;
        let data = u32::try_from(data).expect("small");
        Expr::XtTarget(Box::new(XtTarget { call: target.clone(), name, data }))
    }
}

/// The kernel's name and revision of a match that iptables 1.8.9 calls `name`.
fn kernel_match(name: &str) -> (&'static str, u8) {
    const KNOWN: [(&str, &str, u8); 22] = [
        ("addrtype", "addrtype", 1),
        ("comment", "comment", 0),
        ("connmark", "connmark", 1),
        ("conntrack", "conntrack", 3),
        ("hashlimit", "hashlimit", 3),
        ("icmp", "icmp", 0),
        ("icmp6", "icmp6", 0),
        ("iprange", "iprange", 1),
        ("ipvs", "ipvs", 0),
        ("limit", "limit", 0),
        ("mac", "mac", 0),
        ("multiport", "multiport", 1),
        ("nfacct", "nfacct", 0),
        ("owner", "owner", 1),
        ("physdev", "physdev", 0),
        ("recent", "recent", 1),
        ("sctp", "sctp", 0),
        ("set", "set", 4),
        ("state", "conntrack", 3),
        ("statistic", "statistic", 0),
        ("tcp", "tcp", 0),
        ("udp", "udp", 0),
    ];
    KNOWN.into_iter().find(|(known, ..)| *known == name).map_or(("other", 0), |(_, name, rev)| (name, rev))
}

/// The kernel's name and revision of a target that iptables 1.8.9 calls `name`.
fn kernel_target(name: &str) -> (&'static str, u8) {
    const KNOWN: [(&str, u8); 13] = [
        ("CHECKSUM", 0),
        ("CONNMARK", 2),
        ("CT", 2),
        ("DNAT", 2),
        ("HL", 0),
        ("LOG", 0),
        ("MASQUERADE", 0),
        ("REDIRECT", 0),
        ("REJECT", 0),
        ("SNAT", 0),
        ("TCPMSS", 0),
        ("TRACE", 0),
        ("TTL", 0),
    ];
    KNOWN.into_iter().find(|(known, _)| *known == name).unwrap_or(("other", 0))
}

fn word(value: u32, neq: bool) -> Expr {
    Expr::Cmp(Cmp::Word { sreg: R1, value, neq })
}

/// A device's name with its terminating zero, or its beginning. `+` alone is any device, which is loaded and not
/// compared; no device at all is a name that none has.
fn device(test: &Test<Arc<str>>, key: MetaKey, out: &mut Vec<Expr>) {
    out.push(Expr::Meta(Meta::Load { key, dreg: R1 }));
    let (name, bytes, neq) = match test.value.strip_suffix('+') {
        Some("") if test.invert => ("INVAL/D", 8, false),
        Some("") => return,
        Some(start) => (start, start.len(), test.invert),
        None => (&*test.value, test.value.len() + 1, test.invert),
    };
    let words = meta::iface_words(name);
    let len = u8::try_from(bytes.min(meta::IFACE_NAME)).expect("a name");
    out.push(Expr::Cmp(match len {
        4 => Cmp::Word { sreg: R1, value: words[0], neq },
        16 => Cmp::Wide { sreg: R1, words: Box::new(words), neq },
        _ => Cmp::Start { sreg: R1, words: Box::new(words), len, neq },
    }));
}

/// `nft.c:add_nft_tcp`: flags are compared before ports.
fn tcp_flags(tcp: &Tcp, out: &mut Vec<Expr>) {
    if let Some(Test { invert, value: (mask, set) }) = tcp.flags {
        out.push(Expr::Payload(Payload { load: Load::TcpFlags, len: 1, dreg: R1 }));
        out.push(Expr::Bitwise(Bitwise::Word { sreg: R1, dreg: R1, mask: mask.into(), xor: 0 }));
        out.push(word(set.into(), invert));
    }
    ports(tcp.sport, tcp.dport, out);
}

/// `nft.c:add_nft_tcpudp`: single ports of both sides are one load of both.
fn ports(sport: Option<Test<(u16, u16)>>, dport: Option<Test<(u16, u16)>>, out: &mut Vec<Expr>) {
    if let (Some(s), Some(d)) = (sport, dport)
        && s.value.0 == s.value.1
        && d.value.0 == d.value.1
        && s.value.0 != 0
        && d.value.0 != 0
        && s.invert == d.invert
    {
        out.push(Expr::Payload(Payload { load: Load::Ports, len: 4, dreg: R1 }));
        // So that of two negated ports one that differs is enough: a mistake of this version.
        out.push(word(port_word(s.value.0) | port_word(d.value.0) << 16, s.invert));
        return;
    }
    for (test, load) in [(sport, Load::SrcPort), (dport, Load::DstPort)] {
        // All ports are not looked at, negated or not: another mistake of this version.
        let Some(Test { invert, value: (low, high) }) = test.filter(|t| t.value != (0, u16::MAX)) else {
            continue;
        };
        out.push(Expr::Payload(Payload { load, len: 2, dreg: R1 }));
        let words = |port| -> Words { [port_word(port), 0, 0, 0] };
        out.push(if low == high {
            word(port_word(low), invert)
        } else if low == 0 {
            let order = if invert { Order::Gt } else { Order::Lte };
            Expr::Cmp(Cmp::Order { sreg: R1, words: Box::new(words(high)), len: 2, order })
        } else {
            Expr::Range(Range { sreg: R1, len: 2, ends: Box::new([words(low), words(high)]), neq: invert })
        });
    }
}
