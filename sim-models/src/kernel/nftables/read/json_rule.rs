//! Statements of a rule in nft's JSON. One that has a key, an operator or a flag that kube-proxy does not write is none
//! of these and stays opaque.

use super::draft::Draft;
use super::rule::{LOG_LEVELS, in_iface, in_order, merged};
use super::values;
use crate::kernel::nftables::expr::TimeUnit;
use crate::kernel::nftables::{Field, Refusal, SetId, Statement, Verdict};
use ipnet::IpNet;
use serde_json::Value;
use sim_core::classify::Family;
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::sync::Arc;

/// The value of the object's only key, if that is `key`.
pub(super) fn only<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    value.as_object().filter(|o| o.len() == 1)?.get(key)
}

/// The values of these keys, if the object has no other.
pub(super) fn exactly<'v, const N: usize>(value: &'v Value, keys: [&str; N]) -> Option<[&'v Value; N]> {
    let object = value.as_object().filter(|o| o.len() == N)?;
    let mut values = [value; N];
    for (at, key) in values.iter_mut().zip(keys) {
        *at = object.get(key)?;
    }
    Some(values)
}

/// A verdict.
pub(super) fn verdict(draft: &mut Draft, value: &Value, at: usize) -> Option<Verdict> {
    let (word, body) = value.as_object().filter(|o| o.len() == 1)?.iter().next()?;
    let mut target = || {
        let name = only(body, "target")?.as_str().filter(|name| values::is_name(name))?;
        Some(draft.named(name, at))
    };
    match (&**word, body) {
        ("accept", Value::Null) => Some(Verdict::Accept),
        ("drop", Value::Null) => Some(Verdict::Drop),
        ("return", Value::Null) => Some(Verdict::Return),
        ("jump", _) => Some(Verdict::Jump(target()?)),
        ("goto", _) => Some(Verdict::Goto(target()?)),
        _ => None,
    }
}

/// A statement, which stands at byte `at` of the text.
pub(super) fn statement(draft: &mut Draft, value: &Value, at: usize) -> Option<Statement> {
    own_statement(draft, value, at).or_else(|| general(draft, value, at))
}

/// One that other programs write often.
fn general(draft: &mut Draft, value: &Value, at: usize) -> Option<Statement> {
    let (word, body) = value.as_object().filter(|o| o.len() == 1)?.iter().next()?;
    let fields = |allowed: &[&str]| {
        let object = body.as_object()?;
        object.keys().all(|key| allowed.contains(&&**key)).then_some(object)
    };
    match &**word {
        "match" => super::test::json_match(draft, body),
        "vmap" => {
            let [key, data] = exactly(body, ["key", "data"])?;
            super::test::json_map(draft, key, data, at)
        }
        "counter" if body.is_null() => Some(Statement::Counter { packets: 0, bytes: 0 }),
        "counter" => {
            let [packets, bytes] = exactly(body, ["packets", "bytes"])?;
            Some(Statement::Counter { packets: packets.as_u64()?, bytes: bytes.as_u64()? })
        }
        "limit" => {
            let limit = fields(&["rate", "burst", "per", "inv"])?;
            let per = limit.get("per")?.as_str()?;
            let unit = TimeUnit::ALL.into_iter().find(|u| u.name() == per)?;
            let over = limit.get("inv").map_or(Some(false), Value::as_bool)?;
            let burst = u32::try_from(limit.get("burst")?.as_u64()?).ok()?;
            let rate = limit.get("rate")?.as_u64().filter(|rate| *rate > 0)?;
            Some(Statement::Limit { rate, unit, burst, over })
        }
        "log" if body.is_null() => Some(Statement::Log { prefix: None, level: None, group: None }),
        "log" => {
            let log = fields(&["prefix", "level", "group"])?;
            let text = |key: &str| match log.get(key) {
                None => Some(None),
                Some(value) => Some(Some(Arc::<str>::from(value.as_str()?))),
            };
            let prefix = text("prefix")?;
            let is_plain = |t: &Arc<str>| values::is_comment(t) && !t.contains('\\');
            let level = text("level")?;
            if !prefix.iter().all(is_plain) || !level.iter().all(|l| LOG_LEVELS.contains(&&**l)) {
                return None;
            }
            let group =
                log.get("group").map_or(Some(None), |g| Some(Some(u16::try_from(g.as_u64()?).ok()?)))?;
            Some(Statement::Log { prefix, level, group })
        }
        "reject" => match body.as_object()?.len() {
            1 => (*only(body, "type")? == "tcp reset").then_some(Statement::RejectWith(Refusal::TcpReset)),
            _ => {
                let [kind, name] = exactly(body, ["type", "expr"])?;
                let family = draft.table.family;
                let icmp = if family == Family::Ipv4 { "icmp" } else { "icmpv6" };
                let with = Refusal::named(name.as_str()?, family).filter(|_| kind == icmp)?;
                Some(Statement::RejectWith(with))
            }
        },
        "mangle" => {
            let [key, value] = exactly(body, ["key", "value"])?;
            let is_ct = |value: &Value| {
                only(value, "ct").and_then(|ct| only(ct, "key")).is_some_and(|key| key == "mark")
            };
            let number = value.as_u64().map(u32::try_from);
            match (meta(key) == Some("mark"), is_ct(key), number) {
                (true, _, Some(Ok(mark))) => Some(Statement::MarkSet(mark)),
                (_, true, Some(Ok(mark))) => Some(Statement::CtMarkSet(mark)),
                (true, _, None) if is_ct(value) => Some(Statement::MarkFromCt),
                (_, true, None) if meta(value) == Some("mark") => Some(Statement::CtMarkFromMark),
                (true, _, None) => {
                    let [of, mask] = only(value, "&")?.as_array()?.as_slice() else { return None };
                    let mask = u32::try_from(mask.as_u64()?).ok()?;
                    (meta(of) == Some("mark")).then_some(Statement::MarkAnd(mask))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// One of kube-proxy's.
fn own_statement(draft: &mut Draft, value: &Value, at: usize) -> Option<Statement> {
    let family = draft.table.family;
    let (word, body) = value.as_object().filter(|o| o.len() == 1)?.iter().next()?;
    match &**word {
        "match" => comparison(draft, body),
        "vmap" => {
            let [key, data] = exactly(body, ["key", "data"])?;
            if let Some(name) = data.as_str() {
                return Some(Statement::Vmap { fields: fields(key, family)?, map: named_set(draft, name)? });
            }
            let verdicts = numbered(key, data, |value| verdict(draft, value, at))?;
            Some(Statement::NumgenVmap(verdicts))
        }
        "mangle" => {
            let [key, value] = exactly(body, ["key", "value"])?;
            let bits = |op| {
                let [of, bits] = only(value, op)?.as_array()?.as_slice() else { return None };
                (meta(key)? == "mark" && meta(of)? == "mark").then(|| u32::try_from(bits.as_u64()?).ok())?
            };
            bits("|").map(Statement::MarkOr).or_else(|| bits("^").map(Statement::MarkXor))
        }
        "dnat" => dnat(body, family),
        "masquerade" => {
            let fully_random = match body {
                Value::Null => false,
                body => *only(body, "flags")? == "fully-random",
            };
            (fully_random || body.is_null()).then_some(Statement::Masquerade { fully_random })
        }
        "set" => {
            let [op, element, set] = exactly(body, ["op", "elem", "set"])?;
            let set = named_set(draft, set.as_str()?)?;
            (op == "update").then(|| Some(Statement::Update { set, field: field(element, family)? }))?
        }
        "reject" => {
            let [kind, expr] = exactly(body, ["type", "expr"])?;
            let icmp = if family == Family::Ipv4 { "icmp" } else { "icmpv6" };
            (kind == icmp && expr == "port-unreachable").then_some(Statement::Reject)
        }
        _ => verdict(draft, value, at).map(Statement::Verdict),
    }
}

fn named_set(draft: &Draft, name: &str) -> Option<SetId> {
    draft.table.find_set(name.strip_prefix('@')?)
}

/// The key of a `meta` expression.
fn meta(value: &Value) -> Option<&str> {
    only(only(value, "meta")?, "key")?.as_str()
}

/// Protocol and field of a `payload` expression.
fn payload(value: &Value) -> Option<(&str, &str)> {
    let [protocol, field] = exactly(only(value, "payload")?, ["protocol", "field"])?;
    Some((protocol.as_str()?, field.as_str()?))
}

fn field(value: &Value, family: Family) -> Option<Field> {
    if let Some(key) = meta(value) {
        return (key == "l4proto").then_some(Field::L4Proto);
    }
    match (payload(value)?, family) {
        (("ip", "saddr"), Family::Ipv4) | (("ip6", "saddr"), Family::Ipv6) => Some(Field::SrcAddr),
        (("ip", "daddr"), Family::Ipv4) | (("ip6", "daddr"), Family::Ipv6) => Some(Field::DstAddr),
        (("th", "dport"), _) => Some(Field::DstPort),
        _ => None,
    }
}

fn fields(value: &Value, family: Family) -> Option<SmallVec<[Field; 4]>> {
    match only(value, "concat") {
        Some(list) => list.as_array()?.iter().map(|value| field(value, family)).collect(),
        None => Some(SmallVec::from_slice(&[field(value, family)?])),
    }
}

/// `numgen` without an offset: its modulus.
fn numgen(value: &Value) -> Option<usize> {
    let [mode, modulus, offset] = exactly(only(value, "numgen")?, ["mode", "mod", "offset"])?;
    let is_plain = mode == "random" && *offset == 0;
    usize::try_from(modulus.as_u64()?).ok().filter(|_| is_plain)
}

/// The items of an anonymous map from the numbers of `numgen`.
fn numbered<T>(key: &Value, data: &Value, mut item: impl FnMut(&Value) -> Option<T>) -> Option<Vec<T>> {
    let one = |value: &Value| {
        let [number, value] = value.as_array()?.as_slice() else { return None };
        Some((usize::try_from(number.as_u64()?).ok()?, item(value)?))
    };
    let items: Option<Vec<_>> = only(data, "set")?.as_array()?.iter().map(one).collect();
    in_order(items?, numgen(key)?)
}

fn port(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

fn dnat(body: &Value, family: Family) -> Option<Statement> {
    if let Some([addr, to]) = exactly(body, ["addr", "port"]) {
        let to = SocketAddr::new(values::addr(addr.as_str()?, family)?, port(to)?);
        return Some(Statement::Dnat(to));
    }
    let [of, addr] = exactly(body, ["family", "addr"])?;
    if values::family(of.as_str()?)? != family {
        return None;
    }
    let [key, data] = exactly(only(addr, "map")?, ["key", "data"])?;
    let to = numbered(key, data, |value| {
        let [addr, to] = only(value, "concat")?.as_array()?.as_slice() else { return None };
        Some(SocketAddr::new(values::addr(addr.as_str()?, family)?, port(to)?))
    })?;
    Some(Statement::DnatNumgen(to))
}

/// A network as an address or as a prefix.
fn net(value: &Value, family: Family) -> Option<IpNet> {
    if let Some(word) = value.as_str() {
        return values::addr(word, family).map(IpNet::from);
    }
    let [addr, len] = exactly(only(value, "prefix")?, ["addr", "len"])?;
    values::prefix(addr.as_str()?, u8::try_from(len.as_u64()?).ok()?, family)
}

/// The networks of an element of an interval set.
fn nets(value: &Value, family: Family) -> Option<Vec<IpNet>> {
    match only(value, "range") {
        Some(range) => {
            let [from, to] = range.as_array()?.as_slice() else { return None };
            values::range(from.as_str()?, to.as_str()?, family)
        }
        None => Some(vec![net(value, family)?]),
    }
}

fn comparison(draft: &Draft, body: &Value) -> Option<Statement> {
    let family = draft.table.family;
    let [op, left, right] = exactly(body, ["op", "left", "right"])?;
    if op == "in" {
        let key = only(only(left, "ct")?, "key")?;
        return match (key.as_str()?, right.as_str()?) {
            ("state", "new") => Some(Statement::CtStateNew),
            ("status", "dnat") => Some(Statement::CtStatusDnat),
            _ => None,
        };
    }
    let negate = match op.as_str()? {
        "==" => false,
        "!=" => true,
        _ => return None,
    };
    if let Some(sides) = only(left, "&") {
        let [of, mask] = sides.as_array()?.as_slice() else { return None };
        let mask = u32::try_from(mask.as_u64()?).ok()?;
        return (meta(of)? == "mark" && *right == 0).then_some(Statement::MarkTest { mask, set: negate });
    }
    if meta(left) == Some("iifname") {
        return in_iface(right.as_str()?, negate);
    }
    if let Some(fib) = only(left, "fib") {
        let [result, flags] = exactly(fib, ["result", "flags"])?;
        // Newer versions print a single flag without brackets.
        let field = match flags.as_array().map_or(std::slice::from_ref(flags), Vec::as_slice) {
            [flag] if flag == "saddr" => Field::SrcAddr,
            [flag] if flag == "daddr" => Field::DstAddr,
            _ => return None,
        };
        return (result == "type" && right == "local" && !negate).then_some(Statement::FibLocal { field });
    }
    if let Some((proto @ ("tcp" | "udp" | "sctp"), "dport")) = payload(left).filter(|_| !negate) {
        return Some(Statement::DstPort(values::proto(proto)?, port(right)?));
    }
    let fields = fields(left, family)?;
    if let Some(name) = right.as_str().filter(|name| name.starts_with('@')) {
        return (!negate).then(|| Some(Statement::InSet { fields, set: named_set(draft, name)? }))?;
    }
    match fields[..] {
        [Field::L4Proto] if !negate => Some(Statement::L4Proto(values::proto(right.as_str()?)?)),
        [field @ (Field::SrcAddr | Field::DstAddr)] => Some(match only(right, "set") {
            Some(list) => {
                let ranges: Option<Vec<_>> = list.as_array()?.iter().map(|v| nets(v, family)).collect();
                Statement::AddrIn { field, nets: merged(ranges?)?, negate }
            }
            None => Statement::Addr { field, net: net(right, family)?, negate },
        }),
        _ => None,
    }
}
