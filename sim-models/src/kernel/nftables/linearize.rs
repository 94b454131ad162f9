//! Statements to kernel expressions, in the order and number that nft 1.0.6 sends them.
//!
//! Source: nftables `src/netlink_linearize.c` (`netlink_gen_relational`, `netlink_gen_bitwise`,
//! `netlink_gen_concat_expr`, `netlink_gen_nat_stmt`) and `src/payload.c` (`payload_gen_dependency`).
//! A prefix that ends on a byte boundary is one shorter load and a compare; any other prefix needs a bitwise
//! in between. A concatenation loads its fields into consecutive registers, each on a 4-byte boundary.
//! A name of an interface is compared in all its 16 bytes, its beginning in as many as are written.
//! Single-element anonymous sets are compared directly, as nft's `src/evaluate.c` rewrites them.

use super::expr::{
    Bitwise, Cmp, Counter, Ct, CtKey, CtSetMark, Dynset, Expr, Fib, Immediate, Limit, Load, Log, Lookup,
    Masq, Meta, MetaKey, Nat, Order, Payload, Range, Reject, SetRef, Words,
};
use super::selector::Selector;
use super::set::AnonymousSet;
use super::set::items::Items;
use super::test::{Right, Test};
use super::value::words;
use super::{Field, Refusal, Rule, Statement, Verdict};
use ipnet::IpNet;
use sim_core::classify::{Family, Proto};
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};

/// First data register (`NFT_REG32_00`), as an index into the register words.
const R1: u8 = 0;

/// The expressions of a rule, with the anonymous sets that its lookups refer to by position.
#[derive(Clone, Debug, Default)]
pub struct LinearRule {
    /// Expressions in order.
    pub exprs: Vec<Expr>,
    /// Anonymous sets of this rule.
    pub anonymous: Vec<AnonymousSet>,
}

/// The address as register words: bytes in network order, words as a little-endian machine holds them.
pub fn addr_words(addr: IpAddr) -> Words {
    let mut w = [0u32; 4];
    match addr {
        IpAddr::V4(a) => w[0] = u32::from_le_bytes(a.octets()),
        IpAddr::V6(a) => {
            for (word, bytes) in w.iter_mut().zip(a.octets().chunks_exact(4)) {
                *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
    }
    w
}

/// The port as a register word.
pub fn port_word(port: u16) -> u32 {
    u32::from(u16::from_le_bytes(port.to_be_bytes()))
}

/// Bytes of an address of this family.
pub fn addr_len(family: Family) -> u8 {
    if family == Family::Ipv4 { 4 } else { 16 }
}

/// Expressions of `rule` in a table of `family`. `first_anonymous` is the position of its first anonymous set
/// among those of its chain.
pub fn linearize(rule: &Rule, family: Family, first_anonymous: usize) -> LinearRule {
    let mut out = Linearizer { family, first_anonymous, rule: LinearRule::default(), proto: None };
    let mut at = 0;
    while let Some(s) = rule.statements.get(at) {
        at += 1 + out.statements(s, rule.statements.get(at + 1));
    }
    out.rule
}

/// Whether an address of `full` bytes is in a network, as nft and iptables-nft (`nft-shared.c:add_addr`) write it.
pub(super) fn prefix_test(load: Load, net: IpNet, neq: bool, full: u8) -> SmallVec<[Expr; 3]> {
    let bits = net.prefix_len();
    let words = addr_words(net.network());
    let compare = |len: u8| {
        Expr::Cmp(match len {
            ..=4 => Cmp::Word { sreg: R1, value: words[0], neq },
            16 => Cmp::Wide { sreg: R1, words: Box::new(words), neq },
            _ => Cmp::Start { sreg: R1, words: Box::new(words), len, neq },
        })
    };
    if bits > 0 && bits.is_multiple_of(8) {
        let len = bits / 8;
        return SmallVec::from_iter([Expr::Payload(Payload { load, len, dreg: R1 }), compare(len)]);
    }
    let mask = addr_words(net.netmask());
    let bitwise = if full == 4 {
        Bitwise::Word { sreg: R1, dreg: R1, mask: mask[0], xor: 0 }
    } else {
        Bitwise::Wide { sreg: R1, dreg: R1, mask: Box::new(mask) }
    };
    let load = Expr::Payload(Payload { load, len: full, dreg: R1 });
    SmallVec::from_iter([load, Expr::Bitwise(bitwise), compare(full)])
}

struct Linearizer {
    family: Family,
    first_anonymous: usize,
    rule: LinearRule,
    /// The protocol that the rule has compared already.
    proto: Option<Proto>,
}

impl Linearizer {
    fn push(&mut self, e: Expr) {
        self.rule.exprs.push(e);
    }

    fn anonymous(&mut self, set: AnonymousSet) -> SetRef {
        let at = self.first_anonymous + self.rule.anonymous.len();
        self.rule.anonymous.push(set);
        SetRef::Anonymous(u32::try_from(at).expect("fewer than 2^32 anonymous sets"))
    }

    /// Loads a field and returns how many registers it takes.
    fn load(&mut self, field: Field, dreg: u8) -> u8 {
        let addr = addr_len(self.family);
        match field {
            Field::SrcAddr => self.push(Expr::Payload(Payload { load: Load::SrcAddr, len: addr, dreg })),
            Field::DstAddr => self.push(Expr::Payload(Payload { load: Load::DstAddr, len: addr, dreg })),
            Field::DstPort => self.push(Expr::Payload(Payload { load: Load::DstPort, len: 2, dreg })),
            Field::L4Proto => self.push(Expr::Meta(Meta::Load { key: MetaKey::L4Proto, dreg })),
        }
        match field {
            Field::SrcAddr | Field::DstAddr => addr / 4,
            Field::L4Proto | Field::DstPort => 1,
        }
    }

    fn concat(&mut self, fields: &[Field]) {
        let mut reg = R1;
        for &f in fields {
            reg += self.load(f, reg);
        }
    }

    fn cmp_word(&mut self, value: u32, neq: bool) {
        self.push(Expr::Cmp(Cmp::Word { sreg: R1, value, neq }));
    }

    fn net(&mut self, field: Field, net: IpNet, negate: bool) {
        let load = if field == Field::SrcAddr { Load::SrcAddr } else { Load::DstAddr };
        self.rule.exprs.extend(prefix_test(load, net, negate, addr_len(self.family)));
    }

    fn verdict(&mut self, v: Verdict) {
        self.push(Expr::Immediate(Immediate::Verdict(v)));
    }

    fn nat_to(&mut self, to: SocketAddr) {
        let regs = addr_len(self.family) / 4;
        self.push(Expr::Immediate(Immediate::Addr { dreg: R1, addr: to.ip() }));
        self.push(Expr::Immediate(Immediate::Word { dreg: R1 + regs, value: port_word(to.port()) }));
        self.push(Expr::Nat(Nat { addr_reg: R1, port_reg: R1 + regs, family: self.family }));
    }

    fn mark_op(&mut self, mask: u32, xor: u32) {
        self.push(Expr::Meta(Meta::Load { key: MetaKey::Mark, dreg: R1 }));
        self.push(Expr::Bitwise(Bitwise::Word { sreg: R1, dreg: R1, mask, xor }));
        self.push(Expr::Meta(Meta::SetMark { sreg: R1 }));
    }

    /// Compares the protocol, if the rule has not.
    fn depend(&mut self, proto: Proto) {
        if self.proto != Some(proto) {
            self.proto = Some(proto);
            self.push(Expr::Meta(Meta::Load { key: MetaKey::L4Proto, dreg: R1 }));
            self.cmp_word(u32::from(proto.number()), false);
        }
    }

    /// A statement, with the next one if both are compared at once; returns how many beside the first were taken.
    /// Of that `src/rule.c:payload_do_merge` does, only ports are modelled.
    fn statements(&mut self, s: &Statement, next: Option<&Statement>) -> usize {
        let port = |s: &Statement| match s {
            Statement::DstPort(proto, port) => Some((*proto, Load::DstPort, port_word(*port))),
            Statement::Test(test) => match (&test.key[..], &test.right, test.negate) {
                ([Selector::Transport(Some(proto), load)], Right::Is(value), false)
                    if *load != Load::TcpFlags && test.mask.is_none() =>
                {
                    Some((*proto, *load, words(value)[0]))
                }
                _ => None,
            },
            _ => None,
        };
        if let (Some((proto, Load::SrcPort, from)), Some((of, Load::DstPort, to))) =
            (port(s), next.and_then(port))
            && proto == of
        {
            self.depend(proto);
            self.push(Expr::Payload(Payload { load: Load::Ports, len: 4, dreg: R1 }));
            self.cmp_word(from | to << 16, false);
            return 1;
        }
        self.statement(s);
        0
    }

    /// Loads the fields of a key into registers one after another.
    fn key(&mut self, key: &[Selector]) {
        if let Some(proto) = key.iter().find_map(|s| s.needs()) {
            self.depend(proto);
        }
        let mut reg = R1;
        for selector in key {
            self.push(selector.load(self.family, reg));
            reg += selector.data_type().len(self.family).div_ceil(4);
        }
    }

    fn test(&mut self, test: &Test) {
        if let (&[Selector::Meta(MetaKey::L4Proto)], Right::Is(value), false) =
            (&test.key[..], &test.right, test.negate)
        {
            self.proto = [Proto::Tcp, Proto::Udp, Proto::Sctp].into_iter().find(|p| p.number() == value[0]);
        }
        self.key(&test.key);
        let kind = test.key[0].data_type();
        let neq = test.negate;
        if let Some(mask) = test.mask {
            self.push(Expr::Bitwise(Bitwise::Word { sreg: R1, dreg: R1, mask, xor: 0 }));
        }
        let wide = |bytes: &[u8]| {
            let mut four: Words = [0; 4];
            four.iter_mut().zip(words(bytes)).for_each(|(to, from)| *to = from);
            four
        };
        let len = kind.len(self.family);
        match &test.right {
            Right::Is(value) => {
                let words = wide(&kind.register(value));
                self.push(Expr::Cmp(if len > 4 {
                    Cmp::Wide { sreg: R1, words: Box::new(words), neq }
                } else {
                    Cmp::Word { sreg: R1, value: words[0], neq }
                }));
            }
            &Right::AnyOf(bits) => {
                self.push(Expr::Bitwise(Bitwise::Word { sreg: R1, dreg: R1, mask: bits, xor: 0 }));
                self.cmp_word(0, true);
            }
            Right::Order(order, value) => {
                let words = Box::new(wide(value));
                self.push(Expr::Cmp(Cmp::Order { sreg: R1, words, len, order: *order }));
            }
            Right::Range(from, to) if neq => {
                let ends = Box::new([wide(from), wide(to)]);
                self.push(Expr::Range(Range { sreg: R1, len, ends, neq }));
            }
            Right::Range(from, to) => {
                for (end, order) in [(from, Order::Gte), (to, Order::Lte)] {
                    let words = Box::new(wide(end));
                    self.push(Expr::Cmp(Cmp::Order { sreg: R1, words, len, order }));
                }
            }
            Right::Items(items) => {
                let items = Items::new(&test.key, items, self.family);
                let set = self.anonymous(AnonymousSet::Items(items));
                self.push(Expr::Lookup(Lookup { sreg: R1, set, invert: neq, dreg: None, vmap: false }));
            }
        }
    }

    fn statement(&mut self, s: &Statement) {
        match s {
            Statement::CtStateNew => self.ct_bit(CtKey::State, super::expr::ct::STATE_NEW),
            Statement::CtStatusDnat => self.ct_bit(CtKey::Status, super::expr::ct::STATUS_DNAT),
            &Statement::MarkTest { mask, set } => {
                self.push(Expr::Meta(Meta::Load { key: MetaKey::Mark, dreg: R1 }));
                self.push(Expr::Bitwise(Bitwise::Word { sreg: R1, dreg: R1, mask, xor: 0 }));
                self.cmp_word(0, set);
            }
            &Statement::Addr { field, net, negate } => self.net(field, net, negate),
            Statement::InIface { name, prefix, negate } => {
                self.push(Expr::Meta(Meta::Load { key: MetaKey::IifName, dreg: R1 }));
                let words = Box::new(super::expr::meta::iface_words(name));
                self.push(Expr::Cmp(if *prefix {
                    let len = u8::try_from(name.len().min(super::expr::meta::IFACE_NAME));
                    Cmp::Start { sreg: R1, words, len: len.expect("a name"), neq: *negate }
                } else {
                    Cmp::Wide { sreg: R1, words, neq: *negate }
                }));
            }
            Statement::AddrIn { field, nets, negate } => {
                self.load(*field, R1);
                let set = self.anonymous(AnonymousSet::Intervals(nets.clone()));
                self.push(Expr::Lookup(Lookup { sreg: R1, set, invert: *negate, dreg: None, vmap: false }));
            }
            Statement::InSet { fields, set } => {
                self.concat(fields);
                let set = SetRef::Named(set.0);
                self.push(Expr::Lookup(Lookup { sreg: R1, set, invert: false, dreg: None, vmap: false }));
            }
            Statement::Vmap { fields, map } => {
                self.concat(fields);
                let set = SetRef::Named(map.0);
                self.push(Expr::Lookup(Lookup { sreg: R1, set, invert: false, dreg: None, vmap: true }));
            }
            Statement::L4Proto(p) => {
                self.proto = Some(*p);
                self.push(Expr::Meta(Meta::Load { key: MetaKey::L4Proto, dreg: R1 }));
                self.cmp_word(u32::from(p.number()), false);
            }
            Statement::DstPort(p, port) => {
                self.depend(*p);
                self.push(Expr::Payload(Payload { load: Load::DstPort, len: 2, dreg: R1 }));
                self.cmp_word(port_word(*port), false);
            }
            Statement::FibLocal { field } => {
                self.push(Expr::Fib(Fib { src: *field == Field::SrcAddr, dreg: R1 }));
                self.cmp_word(super::expr::fib::RTN_LOCAL, false);
            }
            &Statement::MarkOr(bits) => self.mark_op(!bits, bits),
            &Statement::MarkXor(bits) => self.mark_op(u32::MAX, bits),
            Statement::NumgenVmap(verdicts) => {
                let modulus = u32::try_from(verdicts.len()).expect("fewer than 2^32 endpoints");
                self.push(Selector::Numgen { inc: false, modulus, offset: 0 }.load(self.family, R1));
                let set = self.anonymous(AnonymousSet::Verdicts(verdicts.clone()));
                self.push(Expr::Lookup(Lookup { sreg: R1, set, invert: false, dreg: None, vmap: true }));
            }
            &Statement::Dnat(to) => self.nat_to(to),
            Statement::DnatNumgen(backends) => {
                let modulus = u32::try_from(backends.len()).expect("fewer than 2^32 endpoints");
                self.push(Selector::Numgen { inc: false, modulus, offset: 0 }.load(self.family, R1));
                let set = self.anonymous(AnonymousSet::Backends(backends.clone()));
                self.push(Expr::Lookup(Lookup { sreg: R1, set, invert: false, dreg: Some(R1), vmap: false }));
                let port_reg = R1 + addr_len(self.family) / 4;
                self.push(Expr::Nat(Nat { addr_reg: R1, port_reg, family: self.family }));
            }
            &Statement::Masquerade { fully_random } => self.push(Expr::Masq(Masq { fully_random })),
            Statement::Update { set, field } => {
                self.load(*field, R1);
                self.push(Expr::Dynset(Dynset { set: set.0, sreg: R1 }));
            }
            &Statement::Verdict(v) => self.verdict(v),
            Statement::Reject => self.push(Expr::Reject(Reject(None))),
            &Statement::RejectWith(with) => {
                if with == Refusal::TcpReset {
                    self.depend(Proto::Tcp);
                }
                self.push(Expr::Reject(Reject(Some(with))));
            }
            Statement::Test(test) => self.test(test),
            Statement::VerdictMap(map) => {
                self.key(&map.key);
                let set = self.anonymous(AnonymousSet::Items(Items::new(&map.key, &map.items, self.family)));
                self.push(Expr::Lookup(Lookup { sreg: R1, set, invert: false, dreg: None, vmap: true }));
            }
            Statement::Counter { .. } => self.push(Expr::Counter(Counter)),
            &Statement::Limit { rate, unit, burst, over } => {
                let slot = Default::default();
                self.push(Expr::Limit(Box::new(Limit { rate, unit, burst, over, slot })));
            }
            Statement::Log { .. } => self.push(Expr::Log(Log)),
            &Statement::MarkSet(value) => {
                self.push(Expr::Immediate(Immediate::Word { dreg: R1, value }));
                self.push(Expr::Meta(Meta::SetMark { sreg: R1 }));
            }
            &Statement::MarkAnd(mask) => self.mark_op(mask, 0),
            Statement::MarkFromCt => {
                self.push(Expr::Ct(Ct { key: CtKey::Mark, dreg: R1 }));
                self.push(Expr::Meta(Meta::SetMark { sreg: R1 }));
            }
            &Statement::CtMarkSet(value) => {
                self.push(Expr::Immediate(Immediate::Word { dreg: R1, value }));
                self.push(Expr::CtSetMark(CtSetMark { sreg: R1 }));
            }
            Statement::CtMarkFromMark => {
                self.push(Expr::Meta(Meta::Load { key: MetaKey::Mark, dreg: R1 }));
                self.push(Expr::CtSetMark(CtSetMark { sreg: R1 }));
            }
            Statement::Opaque(text) => panic!("not a statement of kube-proxy: {text}"),
        }
    }

    fn ct_bit(&mut self, key: CtKey, bit: u32) {
        self.push(Expr::Ct(Ct { key, dreg: R1 }));
        self.push(Expr::Bitwise(Bitwise::Word { sreg: R1, dreg: R1, mask: bit, xor: 0 }));
        self.cmp_word(0, true);
    }
}
