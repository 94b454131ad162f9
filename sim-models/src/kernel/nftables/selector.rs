//! What a rule compares or looks up: a field of the packet or of what is known about it, its type, its names in nft's
//! text and JSON, and the expression that loads it.

use super::expr::{Ct, CtKey, Expr, Fib, Load, Meta, MetaKey, Numgen, Payload};
use super::value::DataType;
use serde_json::Value;
use sim_core::classify::{Family, Proto};
use std::fmt::Write as _;

/// Something that can be loaded into registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// `meta KEY`.
    Meta(MetaKey),
    /// `ct KEY`.
    Ct(CtKey),
    /// `ip saddr`, `ip daddr`, `ip protocol`, and the same of ip6.
    Ip(Load),
    /// `PROTO sport`, `PROTO dport`, `tcp flags`; of any protocol, `th sport`.
    Transport(Option<Proto>, Load),
    /// `fib saddr type` or `fib daddr type`.
    Fib {
        /// The source address.
        src: bool,
    },
    /// `numgen inc mod N offset M`, or random.
    Numgen {
        /// One after another instead of at random.
        inc: bool,
        /// Numbers are below this, before the offset.
        modulus: u32,
        /// What is added.
        offset: u32,
    },
}

const META: [(MetaKey, &str); 7] = [
    (MetaKey::L4Proto, "meta l4proto"),
    (MetaKey::Mark, "meta mark"),
    (MetaKey::Iif, "iif"),
    (MetaKey::Oif, "oif"),
    (MetaKey::IifName, "iifname"),
    (MetaKey::OifName, "oifname"),
    (MetaKey::SkUid, "meta skuid"),
];
const CT: [(CtKey, &str); 4] = [
    (CtKey::State, "state"),
    (CtKey::Status, "status"),
    (CtKey::Mark, "mark"),
    (CtKey::Direction, "direction"),
];
const IP: [(Load, &str); 2] = [(Load::SrcAddr, "saddr"), (Load::DstAddr, "daddr")];
const TRANSPORT: [(Load, &str); 3] =
    [(Load::SrcPort, "sport"), (Load::DstPort, "dport"), (Load::TcpFlags, "flags")];
const PROTOS: [Proto; 3] = [Proto::Tcp, Proto::Udp, Proto::Sctp];

fn name_of<T: PartialEq + Copy>(list: &[(T, &'static str)], of: T) -> &'static str {
    list.iter().find(|(key, _)| *key == of).map_or("?", |(_, name)| name)
}

fn named<T: Copy>(list: &[(T, &str)], name: &str) -> Option<T> {
    list.iter().find(|(_, of)| *of == name).map(|(key, _)| *key)
}

impl Selector {
    /// The type of its values.
    pub fn data_type(self) -> DataType {
        match self {
            Selector::Meta(MetaKey::L4Proto) | Selector::Ip(Load::Protocol) => DataType::Proto,
            Selector::Meta(MetaKey::Mark) | Selector::Ct(CtKey::Mark) => DataType::Mark,
            Selector::Meta(MetaKey::IifName | MetaKey::OifName) => DataType::Iface,
            Selector::Meta(MetaKey::Iif | MetaKey::Oif) => DataType::Index,
            Selector::Meta(MetaKey::SkUid) => DataType::Uid,
            Selector::Ct(CtKey::State) => DataType::CtState,
            Selector::Ct(CtKey::Status) => DataType::CtStatus,
            Selector::Ct(CtKey::Direction) => DataType::CtDir,
            Selector::Ip(_) => DataType::Addr,
            Selector::Transport(_, Load::TcpFlags) => DataType::TcpFlags,
            Selector::Transport(..) => DataType::Port,
            Selector::Fib { .. } => DataType::FibType,
            Selector::Meta(_) | Selector::Numgen { .. } => DataType::Number,
        }
    }

    /// The protocol that it is a field of: what must be known before it is loaded (`payload_gen_dependency`).
    pub fn needs(self) -> Option<Proto> {
        match self {
            Selector::Transport(proto, _) => proto,
            _ => None,
        }
    }

    /// The selector that two words, or one, stand for.
    pub fn parse(first: &str, second: &str, family: Family) -> Option<(Self, usize)> {
        let ip = if family == Family::Ipv4 { "ip" } else { "ip6" };
        let protocol = if family == Family::Ipv4 { "protocol" } else { "nexthdr" };
        if let Some(key) = named(&META, first) {
            return Some((Selector::Meta(key), 1));
        }
        let found = match first {
            "meta" => Selector::Meta(named(&META, &format!("meta {second}"))?),
            "ct" => Selector::Ct(named(&CT, second)?),
            "th" => match named(&TRANSPORT, second)? {
                Load::TcpFlags => return None,
                load => Selector::Transport(None, load),
            },
            _ if first == ip && second == protocol => Selector::Ip(Load::Protocol),
            _ if first == ip => Selector::Ip(named(&IP, second)?),
            _ => {
                let proto = PROTOS.into_iter().find(|p| p.name() == first)?;
                let load = named(&TRANSPORT, second)?;
                if load == Load::TcpFlags && proto != Proto::Tcp {
                    return None;
                }
                Selector::Transport(Some(proto), load)
            }
        };
        Some((found, 2))
    }

    /// Writes it as nft's text has it.
    pub fn print(self, family: Family, out: &mut String) {
        let ip = if family == Family::Ipv4 { "ip" } else { "ip6" };
        match self {
            Selector::Meta(key) => write!(out, "{}", name_of(&META, key)),
            Selector::Ct(key) => write!(out, "ct {}", name_of(&CT, key)),
            Selector::Ip(Load::Protocol) => {
                write!(out, "{ip} {}", if family == Family::Ipv4 { "protocol" } else { "nexthdr" })
            }
            Selector::Ip(load) => write!(out, "{ip} {}", name_of(&IP, load)),
            Selector::Transport(proto, load) => {
                write!(out, "{} {}", proto.map_or("th", Proto::name), name_of(&TRANSPORT, load))
            }
            Selector::Fib { src } => write!(out, "fib {} type", if src { "saddr" } else { "daddr" }),
            Selector::Numgen { inc, modulus, offset } => {
                let mode = if inc { "inc" } else { "random" };
                let added = if offset > 0 { format!(" offset {offset}") } else { String::new() };
                write!(out, "numgen {mode} mod {modulus}{added}")
            }
        }
        .expect("a string takes any text");
    }

    /// Writes it as nft's JSON has it.
    pub fn print_json(self, family: Family, out: &mut String) {
        let mut text = String::new();
        self.print(family, &mut text);
        let (first, second) = text.split_once(' ').unwrap_or(("meta", &text));
        match self {
            Selector::Meta(_) => write!(out, r#"{{"meta": {{"key": "{second}"}}}}"#),
            Selector::Ct(_) => write!(out, r#"{{"ct": {{"key": "{second}"}}}}"#),
            Selector::Ip(_) | Selector::Transport(..) => {
                write!(out, r#"{{"payload": {{"protocol": "{first}", "field": "{second}"}}}}"#)
            }
            Selector::Fib { src } => {
                let flag = if src { "saddr" } else { "daddr" };
                write!(out, r#"{{"fib": {{"result": "type", "flags": ["{flag}"]}}}}"#)
            }
            Selector::Numgen { inc, modulus, offset } => {
                let mode = if inc { "inc" } else { "random" };
                write!(out, r#"{{"numgen": {{"mode": "{mode}", "mod": {modulus}, "offset": {offset}}}}}"#)
            }
        }
        .expect("a string takes any text");
    }

    /// Reads it from nft's JSON.
    pub fn parse_json(value: &Value, family: Family) -> Option<Self> {
        let (word, body) = value.as_object().filter(|o| o.len() == 1)?.iter().next()?;
        let only = |n: usize| body.as_object().filter(|o| o.len() == n);
        match &**word {
            "meta" => {
                let key = only(1)?.get("key")?.as_str()?;
                named(&META, key).or_else(|| named(&META, &format!("meta {key}"))).map(Selector::Meta)
            }
            "ct" => named(&CT, only(1)?.get("key")?.as_str()?).map(Selector::Ct),
            "payload" => {
                let fields = only(2)?;
                let (protocol, field) = (fields.get("protocol")?.as_str()?, fields.get("field")?.as_str()?);
                Selector::parse(protocol, field, family).filter(|(_, words)| *words == 2).map(|(s, _)| s)
            }
            "fib" => {
                let fields = only(2)?;
                let flags = fields.get("flags")?;
                let flags = flags.as_array().map_or(std::slice::from_ref(flags), Vec::as_slice);
                match (fields.get("result")?.as_str()?, flags) {
                    ("type", [flag]) if flag == "saddr" => Some(Selector::Fib { src: true }),
                    ("type", [flag]) if flag == "daddr" => Some(Selector::Fib { src: false }),
                    _ => None,
                }
            }
            "numgen" => {
                let fields = only(3)?;
                let of = |key: &str| u32::try_from(fields.get(key)?.as_u64()?).ok();
                let inc = match fields.get("mode")?.as_str()? {
                    "inc" => true,
                    "random" => false,
                    _ => return None,
                };
                let modulus = of("mod").filter(|n| *n > 0)?;
                Some(Selector::Numgen { inc, modulus, offset: of("offset")? })
            }
            _ => None,
        }
    }

    /// The expression that loads it.
    pub fn load(self, family: Family, dreg: u8) -> Expr {
        let len = self.data_type().len(family);
        match self {
            Selector::Meta(key) => Expr::Meta(Meta::Load { key, dreg }),
            Selector::Ct(key) => Expr::Ct(Ct { key, dreg }),
            Selector::Ip(load) | Selector::Transport(_, load) => Expr::Payload(Payload { load, len, dreg }),
            Selector::Fib { src } => Expr::Fib(Fib { src, dreg }),
            Selector::Numgen { inc, modulus, offset } => {
                Expr::Numgen(Numgen { modulus, dreg, offset, inc, slot: Default::default() })
            }
        }
    }
}
