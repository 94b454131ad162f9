//! Comparisons and lookups that kube-proxy does not write, from nft's text and from its JSON.

use super::draft::Draft;
use super::json_rule;
use super::rule::{self, Words};
use crate::kernel::dump::decimal;
use crate::kernel::nftables::Statement;
use crate::kernel::nftables::expr::Order;
use crate::kernel::nftables::selector::Selector;
use crate::kernel::nftables::test::{Item, Right, Selectors, Test, VerdictMap};
use crate::kernel::nftables::value::{Bytes, DataType};
use serde_json::Value;
use sim_core::classify::Family;
use smallvec::SmallVec;

/// Most bytes of a key: the kernel's registers (`NFT_REG32_COUNT`).
const KEY_BYTES_MAX: u32 = 64;

/// A comparison or a lookup in nft's text.
pub(super) fn statement(draft: &mut Draft, words: &mut Words<'_>) -> Option<Statement> {
    let family = draft.table.family;
    let mut key = Selectors::new();
    loop {
        key.push(selector(words, family)?);
        if words.skip(".").is_none() {
            break;
        }
    }
    check_key(&key, family)?;
    let kind = key[0].data_type();
    if words.skip("vmap").is_some() {
        let items = items(words, &key, family, |words| rule::verdict(draft, words).map(Some))?;
        return finish_map(key, items, family);
    }
    if matches!(key[0], Selector::Numgen { .. }) {
        return None;
    }
    let mut mask = None;
    let mut negate = words.skip("!=").is_some();
    if words.rest().starts_with('{') {
        let items = items(words, &key, family, |_| Some(None))?;
        return finish_set(key, items, negate, family);
    }
    if key.len() > 1 {
        return None;
    }
    for (sign, order) in [("<", Order::Lt), ("<=", Order::Lte), (">", Order::Gt), (">=", Order::Gte)] {
        if !negate && words.skip(sign).is_some() {
            let value = kind.parse(words.next()?, family)?;
            return kind.is_ordered().then(|| test(key, None, false, Right::Order(order, value)));
        }
    }
    if kind == DataType::Mark && !negate && words.skip("&").is_some() {
        mask = Some(u32::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?);
        negate = match words.next()? {
            "!=" => true,
            "==" => false,
            _ => return None,
        };
    }
    let word = words.next()?;
    if kind.bits().is_some() {
        let found = bits(kind, word.split(','))?;
        if words.skip("/").is_some() {
            let mask = bits(kind, words.next()?.split(','))?;
            let value = Right::Is(Bytes::from_slice(&found.to_le_bytes()[..usize::from(kind.len(family))]));
            return Some(test(key, Some(mask), negate, value));
        }
        return (!negate).then(|| test(key, None, false, Right::AnyOf(found)));
    }
    let (from, to) = range(word, kind, family)?;
    let right = if from == to { Right::Is(from) } else { Right::Range(from, to) };
    // A prefix is compared in another way; of addresses that has a statement of its own.
    (!word.contains('/')).then(|| test(key, mask, negate, right))
}

fn test(key: Selectors, mask: Option<u32>, negate: bool, right: Right) -> Statement {
    Statement::Test(Box::new(Test { key, mask, negate, right }))
}

fn bits<'a>(kind: DataType, names: impl Iterator<Item = &'a str>) -> Option<u32> {
    let known = kind.bits()?;
    let one = |name: &str| known.iter().find(|(_, of)| *of == name).map(|(bit, _)| *bit);
    let mut found = 0;
    for name in names {
        let bit = one(name)?;
        if found & bit != 0 {
            return None;
        }
        found |= bit;
    }
    Some(found)
}

/// Whether the key fits the registers, and its parts are of one protocol.
fn check_key(key: &[Selector], family: Family) -> Option<()> {
    let bytes: u32 = key.iter().map(|s| u32::from(s.data_type().len(family)).next_multiple_of(4)).sum();
    let protos: Vec<_> = key.iter().filter_map(|s| s.needs()).collect();
    (bytes <= KEY_BYTES_MAX && protos.windows(2).all(|pair| pair[0] == pair[1])).then_some(())
}

fn selector(words: &mut Words<'_>, family: Family) -> Option<Selector> {
    let first = words.next()?;
    match first {
        "fib" => {
            let src = match words.next()? {
                "saddr" => true,
                "daddr" => false,
                _ => return None,
            };
            words.skip("type")?;
            return Some(Selector::Fib { src });
        }
        "numgen" => {
            let inc = match words.next()? {
                "inc" => true,
                "random" => false,
                _ => return None,
            };
            words.skip("mod")?;
            let modulus = decimal(words.next()?).filter(|n| *n > 0)?;
            let offset = if words.skip("offset").is_some() { decimal(words.next()?)? } else { 0 };
            return Some(Selector::Numgen { inc, modulus, offset });
        }
        _ => {}
    }
    let mut ahead = words.clone();
    let (found, taken) = Selector::parse(first, ahead.next().unwrap_or(""), family)?;
    if taken == 2 {
        *words = ahead;
    }
    Some(found)
}

/// A value, a range or a prefix, as its two ends.
fn range(word: &str, kind: DataType, family: Family) -> Option<(Bytes, Bytes)> {
    if let Some(one) = kind.parse(word, family) {
        return Some((one.clone(), one));
    }
    if !kind.is_ordered() {
        return None;
    }
    if let Some((base, len)) = word.split_once('/').filter(|_| kind == DataType::Addr) {
        return prefix(kind.parse(base, family)?, decimal(len)?);
    }
    let (from, to) = word.split_once('-')?;
    ends(kind.parse(from, family)?, kind.parse(to, family)?)
}

fn ends(from: Bytes, to: Bytes) -> Option<(Bytes, Bytes)> {
    (from < to).then_some((from, to))
}

fn prefix(from: Bytes, len: u32) -> Option<(Bytes, Bytes)> {
    let bits = from.len() as u32 * 8;
    let mut to = from.clone();
    for (i, byte) in (0u32..).zip(&mut to) {
        let kept = len.saturating_sub(8 * i).min(8);
        *byte |= 0xffu8.checked_shr(kept).unwrap_or(0);
    }
    let is_trunc = from.iter().zip(&to).zip(0u32..).all(|((from, to), i)| {
        let kept = len.saturating_sub(8 * i).min(8);
        from & 0xffu8.checked_shr(kept).unwrap_or(0) == 0 || from == to
    });
    (len < bits && is_trunc).then_some((from, to))
}

/// `{ ITEM, ITEM : VERDICT }`.
fn items<'a>(
    words: &mut Words<'a>,
    key: &[Selector],
    family: Family,
    mut value: impl FnMut(&mut Words<'a>) -> Option<Option<crate::kernel::nftables::Verdict>>,
) -> Option<Vec<Item>> {
    let mut out = Vec::new();
    words.list(|words| {
        let mut item = Item { key: SmallVec::new(), verdict: None };
        for (i, selector) in key.iter().enumerate() {
            if i > 0 {
                words.skip(".")?;
            }
            item.key.push(range(words.item()?, selector.data_type(), family)?);
        }
        if words.skip(":").is_some() {
            item.verdict = value(words)?;
        }
        out.push(item);
        Some(())
    })?;
    Some(out)
}

/// No two elements of one key may have a value in common; nft lists what it has merged, and refuses the rest.
fn is_disjoint(items: &[Item], key: &[Selector]) -> bool {
    let mut firsts: Vec<_> = items.iter().map(|item| &item.key).collect();
    firsts.sort();
    if key.len() > 1 {
        return firsts.windows(2).all(|pair| pair[0] != pair[1]);
    }
    let is_ordered = key[0].data_type().is_ordered();
    firsts.windows(2).all(|pair| if is_ordered { pair[0][0].1 < pair[1][0].0 } else { pair[0] != pair[1] })
}

fn finish_set(key: Selectors, items: Vec<Item>, negate: bool, family: Family) -> Option<Statement> {
    check_key(&key, family)?;
    let is_plain = items.iter().all(|item| item.verdict.is_none());
    (is_plain && !items.is_empty() && is_disjoint(&items, &key))
        .then(|| test(key, None, negate, Right::Items(items)))
}

fn finish_map(key: Selectors, items: Vec<Item>, family: Family) -> Option<Statement> {
    check_key(&key, family)?;
    let is_map = items.iter().all(|item| item.verdict.is_some());
    (is_map && !items.is_empty() && is_disjoint(&items, &key))
        .then(|| Statement::VerdictMap(Box::new(VerdictMap { key, items })))
}

/// The body of a `match` of nft's JSON.
pub(super) fn json_match(draft: &Draft, body: &Value) -> Option<Statement> {
    let family = draft.table.family;
    let [op, left, right] = json_rule::exactly(body, ["op", "left", "right"])?;
    let (left, mask) = match json_rule::only(left, "&") {
        Some(sides) => match sides.as_array()?.as_slice() {
            [of, mask] => (of, Some(mask)),
            _ => return None,
        },
        None => (left, None),
    };
    let key = json_key(left, family)?;
    let kind = key[0].data_type();
    let as_bits = |value: &Value| match value {
        Value::Array(names) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            bits(kind, names?.into_iter())
        }
        value => bits(kind, std::iter::once(value.as_str()?)),
    };
    let mask = match mask {
        Some(mask) if kind.bits().is_some() => Some(as_bits(mask)?),
        Some(mask) if kind == DataType::Mark => Some(u32::try_from(mask.as_u64()?).ok()?),
        Some(_) => return None,
        None => None,
    };
    let order = match op.as_str()? {
        "in" => {
            return (mask.is_none()).then(|| Some(test(key, None, false, Right::AnyOf(as_bits(right)?))))?;
        }
        "<" => Some(Order::Lt),
        "<=" => Some(Order::Lte),
        ">" => Some(Order::Gt),
        ">=" => Some(Order::Gte),
        "==" | "!=" => None,
        _ => return None,
    };
    if let Some(order) = order {
        let value = kind.parse_json(right, family).filter(|_| kind.is_ordered() && mask.is_none())?;
        return Some(test(key, None, false, Right::Order(order, value)));
    }
    let negate = op == "!=";
    if let Some(list) = json_rule::only(right, "set") {
        let items: Option<Vec<Item>> =
            list.as_array()?.iter().map(|value| json_item(value, &key, family)).collect();
        return finish_set(key, items.filter(|_| mask.is_none())?, negate, family);
    }
    if let (Some(mask), true) = (mask, kind.bits().is_some()) {
        let value = as_bits(right)?.to_le_bytes();
        let value = Bytes::from_slice(&value[..usize::from(kind.len(family))]);
        return Some(test(key, Some(mask), negate, Right::Is(value)));
    }
    if key.len() > 1 || kind.bits().is_some() || json_rule::only(right, "prefix").is_some() {
        return None;
    }
    let (from, to) = json_range(right, kind, family)?;
    let right = if from == to { Right::Is(from) } else { Right::Range(from, to) };
    Some(test(key, mask, negate, right))
}

/// The body of a `vmap` with an anonymous map.
pub(super) fn json_map(draft: &mut Draft, key: &Value, data: &Value, at: usize) -> Option<Statement> {
    let family = draft.table.family;
    let key = json_key(key, family)?;
    let mut items = Vec::new();
    for pair in json_rule::only(data, "set")?.as_array()? {
        let [value, verdict] = pair.as_array()?.as_slice() else { return None };
        let mut item = json_item(value, &key, family)?;
        item.verdict = Some(json_rule::verdict(draft, verdict, at)?);
        items.push(item);
    }
    finish_map(key, items, family)
}

fn json_key(value: &Value, family: Family) -> Option<Selectors> {
    let key: Selectors = match json_rule::only(value, "concat") {
        Some(list) => {
            list.as_array()?.iter().map(|v| Selector::parse_json(v, family)).collect::<Option<_>>()?
        }
        None => Selectors::from_iter([Selector::parse_json(value, family)?]),
    };
    check_key(&key, family)?;
    (!key.is_empty()).then_some(key)
}

fn json_item(value: &Value, key: &[Selector], family: Family) -> Option<Item> {
    let fields = match json_rule::only(value, "concat") {
        Some(list) => list.as_array()?.as_slice(),
        None => std::slice::from_ref(value),
    };
    if fields.len() != key.len() {
        return None;
    }
    let ranges = fields.iter().zip(key).map(|(v, s)| json_range(v, s.data_type(), family));
    Some(Item { key: ranges.collect::<Option<_>>()?, verdict: None })
}

fn json_range(value: &Value, kind: DataType, family: Family) -> Option<(Bytes, Bytes)> {
    if let Some(range) = json_rule::only(value, "range").filter(|_| kind.is_ordered()) {
        let [from, to] = range.as_array()?.as_slice() else { return None };
        return ends(kind.parse_json(from, family)?, kind.parse_json(to, family)?);
    }
    if let Some(net) = json_rule::only(value, "prefix").filter(|_| kind == DataType::Addr) {
        let [base, len] = json_rule::exactly(net, ["addr", "len"])?;
        return prefix(kind.parse_json(base, family)?, u32::try_from(len.as_u64()?).ok()?);
    }
    let one = kind.parse_json(value, family)?;
    Some((one.clone(), one))
}
