//! Expressions as `nft --debug=netlink` shows them, which is how they are compared with what the real tools send.
//!
//! Source: libnftnl's `src/expr/*.c`, the `*_snprintf_default` functions, by their output. Names of anonymous sets and of
//! chains are those of the reader: sets as `__setN` by their place in the chain, chains by number.

use super::compile::CompiledChain;
use super::expr::{
    Bitwise, Cmp, CtKey, Expr, Immediate, Load, Lookup, Meta, Numgen, Payload, Range, SetRef, Words,
};
use super::linearize::{LinearRule, addr_words, linearize};
use super::{Refusal, Rule, Table, Verdict};
use sim_core::classify::Family;
use std::fmt::Write as _;
use std::net::IpAddr;

/// What the numbers of expressions stand for.
pub struct Names<'a> {
    /// Family of the table.
    pub family: Family,
    /// Name of a chain.
    pub chain: &'a dyn Fn(super::ChainId) -> String,
    /// Name of a named set.
    pub set: &'a dyn Fn(u32) -> String,
}

/// The expressions of a rule of `table`, a line each.
pub fn rule(table: &Table, rule: &Rule) -> String {
    let LinearRule { exprs, .. } = linearize(rule, table.family, 0);
    let names = Names {
        family: table.family,
        chain: &|id| table.chain(id).name.to_string(),
        set: &|id| table.sets[id as usize].name.to_string(),
    };
    lines(&exprs, &names)
}

/// The expressions of a rule of a compiled chain.
///
/// # Panics
/// If the chain has no such rule.
pub fn compiled(chain: &CompiledChain, rule: usize, names: &Names<'_>) -> String {
    let chain = &*chain.code;
    let at = chain.rules[rule];
    let exprs: Vec<Expr> =
        chain.exprs[at.first as usize..at.end as usize].iter().map(|p| p.expr.clone()).collect();
    lines(&exprs, names)
}

/// Expressions, a line each, as `nft` indents them.
pub fn lines(exprs: &[Expr], names: &Names<'_>) -> String {
    let mut out = String::new();
    for expr in exprs {
        out.push_str("  [ ");
        write(expr, names, &mut out);
        out.push_str(" ]\n");
    }
    out
}

/// Sixteen-byte registers are numbered from 1, those of four bytes inside them from 8 on; the first of a group shows as
/// the group.
fn reg(number: u8) -> u8 {
    if number.is_multiple_of(4) { number / 4 + 1 } else { number + 8 }
}

fn hex(words: &[u32]) -> String {
    words.iter().map(|w| format!("{w:#010x}")).collect::<Vec<_>>().join(" ")
}

/// The words that so many bytes take.
fn part(words: &Words, len: u8) -> &[u32] {
    &words[..usize::from(len.div_ceil(4)).min(4)]
}

macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        write!($out, $($arg)*).expect("a string takes any text")
    };
}

fn write(expr: &Expr, names: &Names<'_>, out: &mut String) {
    match expr {
        Expr::Payload(p) => payload(p, names.family, out),
        Expr::Meta(Meta::Load { key, dreg }) => put!(out, "meta load {} => reg {}", key.name(), reg(*dreg)),
        Expr::Meta(Meta::SetMark { sreg }) => put!(out, "meta set mark with reg {}", reg(*sreg)),
        Expr::Ct(ct) => {
            let key = match ct.key {
                CtKey::State => "state",
                CtKey::Status => "status",
                CtKey::Mark => "mark",
                CtKey::Direction => "direction",
            };
            put!(out, "ct load {key} => reg {}", reg(ct.dreg));
        }
        Expr::CtSetMark(e) => put!(out, "ct set mark with reg {}", reg(e.sreg)),
        Expr::Cmp(c) => cmp(c, names.family, out),
        Expr::Range(Range { sreg, len, ends, neq }) => {
            let op = if *neq { "neq" } else { "eq" };
            let [from, to] = [0, 1].map(|i| hex(part(&ends[i], *len)));
            put!(out, "range {op} reg {} {from} {to}", reg(*sreg));
        }
        Expr::Bitwise(b) => {
            let (sreg, dreg, mask, xor) = match b {
                Bitwise::Word { sreg, dreg, mask, xor } => (sreg, dreg, hex(&[*mask]), hex(&[*xor])),
                Bitwise::Wide { sreg, dreg, mask } => (sreg, dreg, hex(&mask[..]), hex(&[0; 4])),
            };
            put!(out, "bitwise reg {} = ( reg {} & {mask} ) ^ {xor}", reg(*dreg), reg(*sreg));
        }
        Expr::Immediate(i) => immediate(i, names, out),
        Expr::Lookup(Lookup { sreg, set, invert, dreg, vmap }) => {
            let set = match set {
                SetRef::Named(id) => (names.set)(*id),
                SetRef::Anonymous(at) => format!("__set{at}"),
            };
            let to = match dreg {
                Some(dreg) => format!(" dreg {}", reg(*dreg)),
                None if *vmap => " dreg 0".to_owned(),
                None => String::new(),
            };
            put!(out, "lookup reg {} set {set}{to} {:#x}", reg(*sreg), u8::from(*invert));
        }
        Expr::Numgen(Numgen { modulus, dreg, offset, inc, .. }) => {
            let mode = if *inc { "inc" } else { "random" };
            put!(out, "numgen reg {} = {mode} mod {modulus}", reg(*dreg));
            if *offset > 0 {
                put!(out, " offset {offset}");
            }
        }
        Expr::Fib(fib) => {
            put!(out, "fib {} type => reg {}", if fib.src { "saddr" } else { "daddr" }, reg(fib.dreg));
        }
        Expr::Dynset(d) => put!(out, "dynset update reg_key {} set {}", reg(d.sreg), (names.set)(d.set)),
        Expr::Nat(n) => {
            let family = if n.family == Family::Ipv4 { "ip" } else { "ip6" };
            let (addr, port) = (reg(n.addr_reg), reg(n.port_reg));
            put!(out, "nat dnat {family} addr_min reg {addr} proto_min reg {port}");
        }
        // NF_NAT_RANGE_PROTO_RANDOM_FULLY
        Expr::Masq(m) => put!(out, "masq{}", if m.fully_random { " flags 0x10" } else { "" }),
        Expr::Reject(e) => {
            let (kind, code) = match e.0 {
                Some(Refusal::TcpReset) => (1, 0),
                Some(Refusal::Icmp(code)) => (0, code),
                None => (0, if names.family == Family::Ipv4 { 3 } else { 4 }),
            };
            put!(out, "reject type {kind} code {code}");
        }
        Expr::Counter(_) => put!(out, "counter pkts 0 bytes 0"),
        Expr::Limit(l) => {
            let over = u8::from(l.over);
            let (rate, unit, burst) = (l.rate, l.unit.name(), l.burst);
            put!(out, "limit rate {rate}/{unit} burst {burst} type packets flags {over:#x}");
        }
        Expr::Log(_) => put!(out, "log"),
        Expr::XtMatch(m) => put!(out, "match name {} rev {}", m.name.0, m.name.1),
        Expr::XtTarget(t) => put!(out, "target name {} rev {}", t.name.0, t.name.1),
    }
}

fn payload(p: &Payload, family: Family, out: &mut String) {
    let (src, dst, proto) = if family == Family::Ipv4 { (12, 16, 9) } else { (8, 24, 6) };
    let (base, offset) = match p.load {
        Load::SrcAddr => ("network", src),
        Load::DstAddr => ("network", dst),
        Load::Protocol => ("network", proto),
        Load::Fragment => ("network", 6),
        Load::SrcPort | Load::Ports => ("transport", 0),
        Load::DstPort => ("transport", 2),
        Load::TcpFlags => ("transport", 13),
    };
    put!(out, "payload load {}b @ {base} header + {offset} => reg {}", p.len, reg(p.dreg));
}

fn cmp(c: &Cmp, family: Family, out: &mut String) {
    let eq = |neq: bool| if neq { "neq" } else { "eq" };
    match c {
        Cmp::Word { sreg, value, neq } => put!(out, "cmp {} reg {} {}", eq(*neq), reg(*sreg), hex(&[*value])),
        Cmp::Wide { sreg, words, neq } => {
            // An address of IPv6 shows no more words than were loaded, of which those behind the last are zero.
            let _ = family;
            put!(out, "cmp {} reg {} {}", eq(*neq), reg(*sreg), hex(&words[..]));
        }
        Cmp::Start { sreg, words, len, neq } => {
            put!(out, "cmp {} reg {} {}", eq(*neq), reg(*sreg), hex(part(words, *len)));
        }
        Cmp::Order { sreg, words, len, order } => {
            put!(out, "cmp {} reg {} {}", order.name(), reg(*sreg), hex(part(words, *len)));
        }
    }
}

fn immediate(i: &Immediate, names: &Names<'_>, out: &mut String) {
    match *i {
        Immediate::Addr { dreg, addr } => {
            let words = addr_words(addr);
            let words = if matches!(addr, IpAddr::V4(_)) { &words[..1] } else { &words[..] };
            put!(out, "immediate reg {} {}", reg(dreg), hex(words));
        }
        Immediate::Word { dreg, value } => put!(out, "immediate reg {} {}", reg(dreg), hex(&[value])),
        Immediate::Verdict(v) => {
            let text = match v {
                Verdict::Jump(to) => format!("jump -> {}", (names.chain)(to)),
                Verdict::Goto(to) => format!("goto -> {}", (names.chain)(to)),
                Verdict::Return => "return".to_owned(),
                Verdict::Accept => "accept".to_owned(),
                Verdict::Drop => "drop".to_owned(),
            };
            put!(out, "immediate reg 0 {text}");
        }
    }
}
