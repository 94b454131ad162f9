//! The text of `nft list table`, as nft 1.0.6 prints it (nftables `src/rule.c:table_print`, `src/expression.c`).
//!
//! Sets come before chains, both in creation order. Elements come in insertion order, where nft prints the order
//! of the kernel's hash table. One thing of nft's is reproduced knowingly: it drops the `addr . port` of
//! `dnat ip addr . port to numgen ...`.

use super::expr;
use super::set::rbtree;
use super::{
    Base, Chain, Element, Field, KeyType, KeyValue, Lifetime, Rule, Set, SetId, Statement, Table, Verdict,
};
use crate::kernel::hook::{ChainKind, Hook};
use ipnet::IpNet;
use sim_core::classify::Family;
use sim_core::units::SimSpan;
use std::fmt::{self, Display, Formatter, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", family(self.family), self.name)?;
        if let Some(c) = &self.comment {
            writeln!(f, "\tcomment \"{c}\"")?;
        }
        let mut blank = false;
        let mut unknown = self.unknown.iter().peekable();
        for at in 0..=self.sets.len() {
            while let Some(unknown) = unknown.next_if(|u| u.after_sets <= at || at == self.sets.len()) {
                let text = unknown.body.to_string();
                let is_block = text.contains('\n');
                writeln!(f, "{}\t{text}", if blank && is_block { "\n" } else { "" })?;
                blank |= is_block;
            }
            if let Some(set) = self.sets.get(at) {
                f.write_str(if blank { "\n" } else { "" })?;
                self.set(SetId(u32::try_from(at).expect("fewer than 2^32 sets")), set, f)?;
                blank = true;
            }
        }
        for chain in &self.chains {
            f.write_str(if blank { "\n" } else { "" })?;
            self.print_chain(chain, f)?;
            blank = true;
        }
        f.write_str("}\n")
    }
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == ChainKind::Nat { "nat" } else { "filter" };
        let hook = self.hook.chain_name().to_lowercase();
        let policy = if self.drops { "drop" } else { "accept" };
        write!(f, "type {kind} hook {hook} priority {}; policy {policy};", priority(self))
    }
}

pub(super) fn family(f: Family) -> &'static str {
    if f == Family::Ipv4 { "ip" } else { "ip6" }
}

/// A rule with what its numbers refer to.
pub struct RuleText<'a>(pub &'a Table, pub &'a Rule);

impl Display for RuleText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, s) in self.1.statements.iter().enumerate() {
            f.write_str(if i > 0 { " " } else { "" })?;
            self.0.statement(s, f)?;
        }
        match &self.1.comment {
            Some(c) => write!(f, " comment \"{c}\""),
            None => Ok(()),
        }
    }
}

/// An element of a named set or map, with what its verdict refers to.
pub struct ElementText<'a>(pub &'a Table, pub &'a Element);

impl Display for ElementText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.element(self.1, None, f)
    }
}

impl Table {
    fn set(&self, id: SetId, set: &Set, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\t{} {} {{", if set.is_map { "map" } else { "set" }, set.name)?;
        let types: Vec<_> = set.key.iter().map(|k| self.key_type(*k)).collect();
        let verdict = if set.is_map { " : verdict" } else { "" };
        writeln!(f, "\t\ttype {}{verdict}", types.join(" . "))?;
        if let Some(seconds) = set.timeout_seconds {
            let size = super::set::dynamic::DEFAULT_SIZE;
            writeln!(f, "\t\tsize {size}\n\t\tflags dynamic,timeout\n\t\ttimeout {}", timeout(seconds))?;
        }
        if let Some(c) = &set.comment {
            writeln!(f, "\t\tcomment \"{c}\"")?;
        }
        if !set.elements.is_empty() {
            // nft puts two IPv4 addresses or five numbers on a line (`src/expression.c:calculate_delim`).
            let a_line = match set.key[..] {
                [KeyType::Addr] if self.family == Family::Ipv4 => 2,
                [KeyType::Proto] | [KeyType::Service] => 5,
                _ => 1,
            };
            f.write_str("\t\telements = { ")?;
            for (i, e) in set.elements.iter().enumerate() {
                f.write_str(match i {
                    0 => "",
                    _ if i % a_line == 0 => ",\n\t\t\t     ",
                    _ => ", ",
                })?;
                self.element(e, self.lifetimes.get(&(id, i)), f)?;
            }
            f.write_str(" }\n")?;
        }
        f.write_str("\t}\n")
    }

    pub(super) fn key_type(&self, k: KeyType) -> &'static str {
        match k {
            KeyType::Addr if self.family == Family::Ipv4 => "ipv4_addr",
            KeyType::Addr => "ipv6_addr",
            KeyType::Proto => "inet_proto",
            KeyType::Service => "inet_service",
        }
    }

    pub(super) fn element(
        &self,
        e: &Element,
        lifetime: Option<&Lifetime>,
        f: &mut impl fmt::Write,
    ) -> fmt::Result {
        for (i, v) in e.key.iter().enumerate() {
            f.write_str(if i > 0 { " . " } else { "" })?;
            match v {
                KeyValue::Addr(a) => write!(f, "{a}")?,
                KeyValue::Proto(p) => write!(f, "{p}")?,
                KeyValue::Service(p) => write!(f, "{p}")?,
            }
        }
        if let Some(timeout) = lifetime.and_then(|l| l.timeout) {
            write!(f, " timeout {}", span(timeout))?;
        }
        if let Some(expires) = lifetime.and_then(|l| l.expires) {
            write!(f, " expires {}", span(expires))?;
        }
        if let Some(c) = &e.comment {
            write!(f, " comment \"{c}\"")?;
        }
        if let Some(v) = e.verdict {
            f.write_str(" : ")?;
            self.verdict(v, f)?;
        }
        Ok(())
    }

    fn print_chain(&self, chain: &Chain, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", chain.name)?;
        if let Some(c) = &chain.comment {
            writeln!(f, "\t\tcomment \"{c}\"")?;
        }
        if let Some(b) = &chain.base {
            writeln!(f, "\t\t{b}")?;
        }
        if let Some(b) = &chain.unknown_base {
            writeln!(f, "\t\t{b}")?;
        }
        for rule in &chain.rules {
            writeln!(f, "\t\t{}", RuleText(self, rule))?;
        }
        f.write_str("\t}\n")
    }

    pub(super) fn verdict(&self, v: Verdict, f: &mut impl fmt::Write) -> fmt::Result {
        match v {
            Verdict::Jump(c) => write!(f, "jump {}", self.chain(c).name),
            Verdict::Goto(c) => write!(f, "goto {}", self.chain(c).name),
            Verdict::Return => f.write_str("return"),
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
        }
    }

    fn field(&self, field: Field) -> &'static str {
        match (field, self.family) {
            (Field::SrcAddr, Family::Ipv4) => "ip saddr",
            (Field::SrcAddr, Family::Ipv6) => "ip6 saddr",
            (Field::DstAddr, Family::Ipv4) => "ip daddr",
            (Field::DstAddr, Family::Ipv6) => "ip6 daddr",
            (Field::L4Proto, _) => "meta l4proto",
            (Field::DstPort, _) => "th dport",
        }
    }

    fn fields(&self, fields: &[Field]) -> String {
        fields.iter().map(|x| self.field(*x)).collect::<Vec<_>>().join(" . ")
    }

    fn statement(&self, s: &Statement, f: &mut Formatter<'_>) -> fmt::Result {
        match s {
            Statement::CtStateNew => f.write_str("ct state new"),
            Statement::CtStatusDnat => f.write_str("ct status dnat"),
            // nft takes the highest bit alone for the prefix of a network.
            Statement::MarkTest { mask: 0x8000_0000, set } => {
                write!(f, "meta mark {}0x00000000/1", if *set { "!= " } else { "" })
            }
            Statement::MarkTest { mask, set } => {
                write!(f, "meta mark & {mask:#010x} {} 0x00000000", if *set { "!=" } else { "==" })
            }
            Statement::Addr { field, net, negate } => {
                f.write_str(self.field(*field))?;
                f.write_str(if *negate { " != " } else { " " })?;
                network(*net, f)
            }
            Statement::InIface { name, prefix, negate } => {
                let (not, any) = (if *negate { "!= " } else { "" }, if *prefix { "*" } else { "" });
                write!(f, "iifname {not}\"{name}{any}\"")
            }
            Statement::AddrIn { field, nets, negate } => {
                f.write_str(self.field(*field))?;
                f.write_str(if *negate { " != { " } else { " { " })?;
                for (i, range) in rbtree::merge(nets).into_iter().enumerate() {
                    f.write_str(if i > 0 { ", " } else { "" })?;
                    self.range(range, f)?;
                }
                f.write_str(" }")
            }
            Statement::InSet { fields, set } => {
                write!(f, "{} @{}", self.fields(fields), self.sets[set.0 as usize].name)
            }
            Statement::Vmap { fields, map } => {
                write!(f, "{} vmap @{}", self.fields(fields), self.sets[map.0 as usize].name)
            }
            Statement::L4Proto(p) => write!(f, "meta l4proto {p}"),
            Statement::DstPort(p, port) => write!(f, "{p} dport {port}"),
            Statement::FibLocal { field } => {
                write!(f, "fib {} type local", if *field == Field::SrcAddr { "saddr" } else { "daddr" })
            }
            Statement::MarkOr(m) => write!(f, "meta mark set meta mark | {m:#010x}"),
            Statement::MarkXor(m) => write!(f, "meta mark set meta mark ^ {m:#010x}"),
            Statement::NumgenVmap(verdicts) => {
                write!(f, "numgen random mod {} vmap {{ ", verdicts.len())?;
                for (i, v) in verdicts.iter().enumerate() {
                    write!(f, "{}{i} : ", if i > 0 { ", " } else { "" })?;
                    self.verdict(*v, f)?;
                }
                f.write_str(" }")
            }
            Statement::Dnat(to) => write!(f, "dnat to {to}"),
            Statement::DnatNumgen(to) => {
                write!(f, "dnat {} to numgen random mod {} map {{ ", family(self.family), to.len())?;
                for (i, to) in to.iter().enumerate() {
                    let (ip, port) = (SocketAddr::ip(to), to.port());
                    write!(f, "{}{i} : {ip} . {port}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(" }")
            }
            Statement::Masquerade { fully_random: true } => f.write_str("masquerade fully-random"),
            Statement::Masquerade { fully_random: false } => f.write_str("masquerade"),
            Statement::Update { set, field } => {
                write!(f, "update @{} {{ {} }}", self.sets[set.0 as usize].name, self.field(*field))
            }
            Statement::Verdict(v) => self.verdict(*v, f),
            Statement::Reject => f.write_str("reject"),
            Statement::RejectWith(with) => match with.name(self.family) {
                Some(name) => {
                    let icmp = if self.family == Family::Ipv4 { "icmp" } else { "icmpv6" };
                    write!(f, "reject with {icmp} {name}")
                }
                None => f.write_str("reject with tcp reset"),
            },
            Statement::Test(test) => {
                let mut out = String::new();
                self.test_text(test, &mut out);
                f.write_str(&out)
            }
            Statement::VerdictMap(map) => {
                let mut out = String::new();
                self.verdict_map_text(map, &mut out);
                f.write_str(&out)
            }
            Statement::Counter { packets, bytes } => write!(f, "counter packets {packets} bytes {bytes}"),
            Statement::Limit { rate, unit, burst, over } => {
                write!(f, "limit rate {}{rate}/{}", if *over { "over " } else { "" }, unit.name())?;
                if *burst == expr::limit::DEFAULT_BURST {
                    Ok(())
                } else {
                    write!(f, " burst {burst} packets")
                }
            }
            Statement::Log { prefix, level, group } => {
                f.write_str("log")?;
                prefix.iter().try_for_each(|p| write!(f, " prefix \"{p}\""))?;
                group.iter().try_for_each(|g| write!(f, " group {g}"))?;
                level.iter().try_for_each(|l| write!(f, " level {l}"))
            }
            Statement::MarkSet(mark) => write!(f, "meta mark set {mark:#010x}"),
            Statement::MarkAnd(mask) => write!(f, "meta mark set meta mark & {mask:#010x}"),
            Statement::MarkFromCt => f.write_str("meta mark set ct mark"),
            Statement::CtMarkSet(mark) => write!(f, "ct mark set {mark:#010x}"),
            Statement::CtMarkFromMark => f.write_str("ct mark set meta mark"),
            Statement::Opaque(text) => write!(f, "{text}"),
        }
    }

    /// One merged range: an address, a prefix if the range is one, or `a-b`.
    fn range(&self, (from, to): (u128, u128), f: &mut Formatter<'_>) -> fmt::Result {
        match as_prefix(self.family, from, to) {
            Some(net) => network(net, f),
            None => write!(f, "{}-{}", addr_of(self.family, from), addr_of(self.family, to)),
        }
    }
}

/// The address with this number.
pub(super) fn addr_of(family: Family, number: u128) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::from_bits(u32::try_from(number).expect("an IPv4 address")).into(),
        Family::Ipv6 => Ipv6Addr::from_bits(number).into(),
    }
}

/// The network that is exactly this range, if there is one.
pub(super) fn as_prefix(family: Family, from: u128, to: u128) -> Option<IpNet> {
    let bits = if family == Family::Ipv4 { 32 } else { 128 };
    let host_bits = (to - from).count_ones();
    let is_prefix = (to - from).trailing_ones() == host_bits && from.trailing_zeros() >= host_bits;
    let prefix = bits - u8::try_from(host_bits).expect("at most 128 bits");
    is_prefix.then(|| IpNet::new(addr_of(family, from), prefix).expect("a prefix"))
}

/// A network; one of full length as an address.
fn network(net: IpNet, f: &mut Formatter<'_>) -> fmt::Result {
    if net.prefix_len() == net.max_prefix_len() { write!(f, "{}", net.addr()) } else { write!(f, "{net}") }
}

/// Priorities have names that depend on the hook.
pub(super) const PRIORITIES: [(&str, i32, Option<Hook>); 6] = [
    ("raw", -300, None),
    ("mangle", -150, None),
    ("dstnat", -100, Some(Hook::Prerouting)),
    ("filter", 0, None),
    ("security", 50, None),
    ("srcnat", 100, Some(Hook::Postrouting)),
];

/// A priority as a name and what is added, if one is within ten (`src/rule.c:prio2str`).
fn priority(b: &Base) -> String {
    for (name, at, hook) in PRIORITIES {
        let off = i64::from(b.priority) - i64::from(at);
        if hook.is_some_and(|hook| hook != b.hook) || off.abs() > 10 {
            continue;
        }
        if off == 0 {
            return name.to_owned();
        }
        return format!("{name} {} {}", if off < 0 { '-' } else { '+' }, off.abs());
    }
    b.priority.to_string()
}

/// Seconds as days, hours, minutes and seconds.
pub(super) fn timeout(seconds: u32) -> String {
    span(SimSpan::from_secs(u64::from(seconds)))
}

/// A time as days, hours, minutes, seconds and milliseconds without the parts that are zero
/// (`src/datatype.c:time_print`).
pub(super) fn span(span: SimSpan) -> String {
    let ms = span.as_ns() / 1_000_000;
    let seconds = ms / 1000;
    let mut out = String::new();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (ms % 1000, "ms"),
    ];
    for (n, unit) in parts.into_iter().filter(|(n, _)| *n > 0) {
        write!(out, "{n}{unit}").expect("a string takes any text");
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}
