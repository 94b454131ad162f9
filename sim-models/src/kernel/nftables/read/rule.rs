//! One rule of nft's text: the statements that kube-proxy writes; what follows the last known one is opaque.

use super::draft::Draft;
use super::values;
use crate::kernel::dump::decimal;
use crate::kernel::nftables::expr::TimeUnit;
use crate::kernel::nftables::expr::limit::DEFAULT_BURST;
use crate::kernel::nftables::set::rbtree;
use crate::kernel::nftables::{Field, Opaque, Refusal, Rule, SetId, Statement, Verdict};
use ipnet::IpNet;
use sim_core::classify::Family;
use smallvec::SmallVec;
use std::net::SocketAddr;

/// Longest name of an interface (`IFNAMSIZ` less the terminating zero).
pub(super) const IFACE_BYTES_MAX: usize = 15;

/// The words of a line.
#[derive(Clone)]
pub(super) struct Words<'a> {
    line: &'a str,
    at: usize,
    /// Place of the line in the whole text.
    base: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(line: &'a str, base: usize) -> Self {
        Words { line, at: 0, base }
    }

    /// The rest of the line.
    pub(super) fn rest(&self) -> &'a str {
        self.line[self.at..].trim_start_matches([' ', '\t'])
    }

    pub(super) fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let word = &rest[..rest.find([' ', '\t']).unwrap_or(rest.len())];
        self.at = self.line.len() - rest.len() + word.len();
        (!word.is_empty()).then_some(word)
    }

    /// Goes on if the next words are these.
    pub(super) fn skip(&mut self, words: &str) -> Option<()> {
        let mut ahead = self.clone();
        for word in words.split(' ') {
            if ahead.next() != Some(word) {
                return None;
            }
        }
        *self = ahead;
        Some(())
    }

    /// The comment, if it is all that is left.
    fn comment(&self) -> Option<&'a str> {
        let quoted = self.rest().strip_prefix("comment \"")?.strip_suffix('"')?;
        values::is_comment(quoted).then_some(quoted)
    }

    /// Whether a rule can end here.
    fn is_at_end(&self) -> bool {
        !self.line[..self.at].ends_with(',') && (self.rest().is_empty() || self.comment().is_some())
    }

    /// Place of the next word in the whole text.
    fn place(&self) -> usize {
        self.base + self.line.len() - self.rest().len()
    }

    /// Items of `{ ITEM, ITEM }`, each read by `item`, which gets told to take a word without the comma.
    pub(super) fn list(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.skip("{")?;
        loop {
            item(self)?;
            if self.line[..self.at].ends_with(',') {
                continue;
            }
            return self.skip("}");
        }
    }

    /// The next word without a comma that ends it.
    pub(super) fn item(&mut self) -> Option<&'a str> {
        let word = self.next()?;
        Some(word.strip_suffix(',').unwrap_or(word))
    }
}

/// Reads a whole rule.
pub(super) fn rule(draft: &mut Draft, words: &mut Words<'_>) -> Rule {
    let mut out = Rule::new([]);
    // Where each statement begins.
    let mut starts: Vec<usize> = Vec::new();
    loop {
        if let Some(comment) = words.comment() {
            out.comment = Some(comment.into());
            return out;
        }
        if words.rest().is_empty() {
            return out;
        }
        let start = words.line.len() - words.rest().len();
        let before = words.clone();
        let mut known = statement(draft, words);
        if known.is_none() {
            *words = before.clone();
            known = general(draft, words);
        }
        if known.is_none() {
            *words = before.clone();
        }
        if let Some(statement) = known {
            starts.push(start);
            out.statements.push(statement);
            continue;
        }
        // What does not begin with a word goes on with the statement before.
        let goes_on = !before.rest().starts_with(|c: char| c.is_ascii_alphabetic());
        let start =
            if goes_on && out.statements.pop().is_some() { starts.pop().expect("as many") } else { start };
        let (text, comment) = split_comment(&words.line[start..]);
        out.statements.push(Statement::Opaque(Opaque::Text(text.into())));
        out.comment = comment.map(Into::into);
        return out;
    }
}

/// Statements that are not understood, and the comment behind them.
fn split_comment(text: &str) -> (&str, Option<&str>) {
    let split = text.strip_suffix('"').and_then(|head| head.rsplit_once(" comment \""));
    match split.filter(|(head, comment)| values::is_comment(comment) && !head.trim().is_empty()) {
        Some((head, comment)) => (head.trim_end(), Some(comment)),
        None => (text.trim_end(), None),
    }
}

/// The next statement, if it is one that other programs write often.
fn general(draft: &mut Draft, words: &mut Words<'_>) -> Option<Statement> {
    let mut ahead = words.clone();
    let found = match ahead.next()? {
        "counter" => {
            let (mut packets, mut bytes) = (0, 0);
            if ahead.skip("packets").is_some() {
                packets = decimal(ahead.next()?)?;
                ahead.skip("bytes")?;
                bytes = decimal(ahead.next()?)?;
            } else if ahead.skip("name").is_some() {
                return None;
            }
            Statement::Counter { packets, bytes }
        }
        "limit" => limit(&mut ahead)?,
        "log" => log(&mut ahead)?,
        "reject" => {
            ahead.skip("with")?;
            let with = match (ahead.next()?, ahead.next()?) {
                ("tcp", "reset") => Refusal::TcpReset,
                ("icmp" | "icmpv6", name) => Refusal::named(name, draft.table.family)?,
                _ => return None,
            };
            if !ahead.is_at_end() {
                return None;
            }
            Statement::RejectWith(with)
        }
        "meta" if ahead.skip("mark set").is_some() => {
            if ahead.skip("ct mark").is_some() {
                Statement::MarkFromCt
            } else if ahead.skip("meta mark &").is_some() {
                let mask = hex(ahead.next()?)?;
                // A mask and bits that are set then.
                if ahead.rest().starts_with(['|', '^']) {
                    return None;
                }
                Statement::MarkAnd(mask)
            } else {
                Statement::MarkSet(hex(ahead.next()?)?)
            }
        }
        "ct" if ahead.skip("mark set").is_some() => {
            if ahead.skip("meta mark").is_some() {
                Statement::CtMarkFromMark
            } else {
                Statement::CtMarkSet(hex(ahead.next()?)?)
            }
        }
        _ => {
            ahead = words.clone();
            super::test::statement(draft, &mut ahead)?
        }
    };
    // What does not begin with a word would go on with this statement.
    let is_whole = ahead.rest().is_empty() || ahead.rest().starts_with(|c: char| c.is_ascii_alphabetic());
    if !is_whole || ahead.line[..ahead.at].ends_with(',') {
        return None;
    }
    *words = ahead;
    Some(found)
}

/// What follows `limit`, of packets.
fn limit(words: &mut Words<'_>) -> Option<Statement> {
    words.skip("rate")?;
    let over = words.skip("over").is_some();
    let (rate, unit) = words.next()?.split_once('/')?;
    let unit = TimeUnit::ALL.into_iter().find(|u| u.name() == unit)?;
    let mut burst = DEFAULT_BURST;
    if words.skip("burst").is_some() {
        burst = decimal(words.next()?)?;
        words.skip("packets")?;
    }
    let rate = decimal(rate).filter(|rate| *rate > 0)?;
    Some(Statement::Limit { rate, unit, burst, over })
}

/// What follows `log`.
fn log(words: &mut Words<'_>) -> Option<Statement> {
    let (mut prefix, mut level, mut group) = (None, None, None);
    if words.skip("prefix").is_some() {
        let (text, _) = words.rest().strip_prefix('"')?.split_once('"')?;
        let end = words.line.len() - words.rest().len() + text.len() + 2;
        words.at = end;
        prefix = Some(text).filter(|t| values::is_comment(t) && !t.contains('\\')).map(Into::into);
        prefix.as_ref()?;
    }
    if words.skip("group").is_some() {
        group = Some(decimal(words.next()?)?);
    }
    if words.skip("level").is_some() {
        level = Some(words.next().filter(|w| LOG_LEVELS.contains(w))?.into());
    }
    // Flags and the rest of what a log may say.
    let more = ["flags", "snaplen", "queue-threshold", "prefix", "group"];
    let is_known = more.iter().all(|word| words.clone().skip(word).is_none());
    is_known.then_some(Statement::Log { prefix, level, group })
}

/// Levels of a log other than the one that is not written.
pub(super) const LOG_LEVELS: [&str; 8] =
    ["emerg", "alert", "crit", "err", "notice", "info", "debug", "audit"];

/// The next statement, or nothing if it is not one of kube-proxy's.
fn statement(draft: &mut Draft, words: &mut Words<'_>) -> Option<Statement> {
    let family = draft.table.family;
    let mut ahead = words.clone();
    let first = ahead.next()?;
    match first {
        "jump" | "goto" | "return" | "accept" | "drop" => {
            let verdict = verdict(draft, words)?;
            return words.is_at_end().then_some(Statement::Verdict(verdict));
        }
        "ct" => {
            if words.skip("ct state new").is_some() {
                return Some(Statement::CtStateNew);
            }
            words.skip("ct status dnat")?;
            return Some(Statement::CtStatusDnat);
        }
        "fib" => {
            let field = match (ahead.next()?, ahead.next()?, ahead.next()?) {
                ("saddr", "type", "local") => Field::SrcAddr,
                ("daddr", "type", "local") => Field::DstAddr,
                _ => return None,
            };
            *words = ahead;
            return Some(Statement::FibLocal { field });
        }
        "iifname" => {
            let negate = ahead.skip("!=").is_some();
            let statement = in_iface(ahead.next()?.strip_prefix('"')?.strip_suffix('"')?, negate)?;
            *words = ahead;
            return Some(statement);
        }
        "reject" => {
            *words = ahead;
            return words.is_at_end().then_some(Statement::Reject);
        }
        "masquerade" => {
            let fully_random = ahead.skip("fully-random").is_some();
            *words = ahead;
            return words.is_at_end().then_some(Statement::Masquerade { fully_random });
        }
        "update" => {
            let set = named_set(draft, ahead.next()?)?;
            ahead.skip("{")?;
            let field = field(&mut ahead, family)?;
            ahead.skip("}")?;
            *words = ahead;
            return Some(Statement::Update { set, field });
        }
        "dnat" => {
            let statement = dnat(&mut ahead, family)?;
            *words = ahead;
            return words.is_at_end().then_some(statement);
        }
        "numgen" => {
            let count = numgen(words)?;
            words.skip("vmap")?;
            let verdicts = numbered(words, count, |words| verdict(draft, words))?;
            return Some(Statement::NumgenVmap(verdicts));
        }
        "tcp" | "udp" | "sctp" if ahead.skip("dport").is_some() => {
            let port = decimal(ahead.next()?)?;
            *words = ahead;
            return Some(Statement::DstPort(values::proto(first)?, port));
        }
        "meta" if ahead.skip("mark").is_some() => {
            let statement = mark(&mut ahead)?;
            *words = ahead;
            return Some(statement);
        }
        _ => {}
    }
    compare_fields(draft, words)
}

/// `FIELD . FIELD @SET`, `FIELD vmap @MAP`, `FIELD NET`, `FIELD != { NET, NET-NET }`, `meta l4proto tcp`.
fn compare_fields(draft: &Draft, words: &mut Words<'_>) -> Option<Statement> {
    let family = draft.table.family;
    let mut fields = SmallVec::<[Field; 4]>::new();
    loop {
        fields.push(field(words, family)?);
        if words.skip(".").is_none() {
            break;
        }
    }
    if words.skip("vmap").is_some() {
        return Some(Statement::Vmap { fields, map: named_set(draft, words.next()?)? });
    }
    if words.rest().starts_with('@') {
        return Some(Statement::InSet { fields, set: named_set(draft, words.next()?)? });
    }
    let negate = words.skip("!=").is_some();
    match fields[..] {
        [Field::L4Proto] if !negate => Some(Statement::L4Proto(values::proto(words.next()?)?)),
        [field @ (Field::SrcAddr | Field::DstAddr)] if words.rest().starts_with('{') => {
            let mut ranges = Vec::new();
            words.list(|words| {
                let word = words.item()?;
                ranges.push(match word.split_once('-') {
                    Some((from, to)) => values::range(from, to, family)?,
                    None => vec![values::net(word, family)?],
                });
                Some(())
            })?;
            Some(Statement::AddrIn { field, nets: merged(ranges)?, negate })
        }
        [field @ (Field::SrcAddr | Field::DstAddr)] => {
            Some(Statement::Addr { field, net: values::net(words.next()?, family)?, negate })
        }
        _ => None,
    }
}

/// The networks of an interval set, if its elements are listed as nft lists them: rising and without neighbours.
pub(super) fn merged(ranges: Vec<Vec<IpNet>>) -> Option<Vec<IpNet>> {
    let count = ranges.len();
    let one_by_one: Vec<_> = ranges.iter().flat_map(|nets| rbtree::merge(nets)).collect();
    let nets = ranges.concat();
    (one_by_one.len() == count && rbtree::merge(&nets) == one_by_one).then_some(nets)
}

/// `iifname "NAME"` or its beginning, `"NAME*"`.
pub(super) fn in_iface(name: &str, negate: bool) -> Option<Statement> {
    let (name, prefix) = name.strip_suffix('*').map_or((name, false), |name| (name, true));
    let is_name = !name.is_empty()
        && name.len() <= IFACE_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_graphic() && !b"\"*\\".contains(&b));
    is_name.then(|| Statement::InIface { name: name.into(), prefix, negate })
}

fn field(words: &mut Words<'_>, family: Family) -> Option<Field> {
    let ip = if family == Family::Ipv4 { "ip" } else { "ip6" };
    let (first, second) = (words.next()?, words.next()?);
    match (first, second) {
        ("meta", "l4proto") => Some(Field::L4Proto),
        ("th", "dport") => Some(Field::DstPort),
        (first, "saddr") if first == ip => Some(Field::SrcAddr),
        (first, "daddr") if first == ip => Some(Field::DstAddr),
        _ => None,
    }
}

fn named_set(draft: &Draft, word: &str) -> Option<SetId> {
    draft.table.find_set(word.strip_prefix('@')?)
}

/// A verdict; the comma after it in a list is passed over.
pub(super) fn verdict(draft: &mut Draft, words: &mut Words<'_>) -> Option<Verdict> {
    Some(match words.item()? {
        "accept" => Verdict::Accept,
        "drop" => Verdict::Drop,
        "return" => Verdict::Return,
        word @ ("jump" | "goto") => {
            let place = words.place();
            let name = words.item().filter(|name| values::is_name(name))?;
            let to = draft.named(name, place);
            if word == "jump" { Verdict::Jump(to) } else { Verdict::Goto(to) }
        }
        _ => return None,
    })
}

/// What follows `meta mark`.
fn mark(words: &mut Words<'_>) -> Option<Statement> {
    if words.skip("&").is_some() {
        let mask = hex(words.next()?)?;
        let set = match words.next()? {
            "!=" => true,
            "==" => false,
            _ => return None,
        };
        return (hex(words.next()?)? == 0).then_some(Statement::MarkTest { mask, set });
    }
    words.skip("set meta mark")?;
    match words.next()? {
        "|" => Some(Statement::MarkOr(hex(words.next()?)?)),
        "^" => Some(Statement::MarkXor(hex(words.next()?)?)),
        _ => None,
    }
}

fn hex(word: &str) -> Option<u32> {
    u32::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// `numgen random mod N`.
fn numgen(words: &mut Words<'_>) -> Option<usize> {
    words.skip("numgen random mod")?;
    decimal(words.next()?)
}

/// `{ 0 : ITEM, 1 : ITEM }` with every number below `count`.
fn numbered<'a, T>(
    words: &mut Words<'a>,
    count: usize,
    mut item: impl FnMut(&mut Words<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut items = Vec::new();
    words.list(|words| {
        let number: usize = decimal(words.next()?)?;
        words.skip(":")?;
        items.push((number, item(words)?));
        Some(())
    })?;
    in_order(items, count)
}

/// Numbered items in the order of their numbers, if those are exactly the ones below `count`.
pub(super) fn in_order<T>(mut items: Vec<(usize, T)>, count: usize) -> Option<Vec<T>> {
    items.sort_by_key(|(number, _)| *number);
    let is_whole = count > 0 && items.len() == count && items.iter().zip(0..).all(|((n, _), i)| *n == i);
    is_whole.then(|| items.into_iter().map(|(_, item)| item).collect())
}

/// What follows `dnat`. nft 1.0.6 drops the `addr . port` that newer ones print.
fn dnat(words: &mut Words<'_>, family: Family) -> Option<Statement> {
    if words.skip("to").is_some() {
        let to: SocketAddr = words.next()?.parse().ok()?;
        return (Family::of(to.ip()) == family).then_some(Statement::Dnat(to));
    }
    if values::family(words.next()?)? != family {
        return None;
    }
    if words.skip("addr . port to").is_none() {
        words.skip("to")?;
    }
    let count = numgen(words)?;
    words.skip("map")?;
    let to = numbered(words, count, |words| {
        let addr = values::addr(words.next()?, family)?;
        words.skip(".")?;
        Some(SocketAddr::new(addr, decimal(words.item()?)?))
    })?;
    Some(Statement::DnatNumgen(to))
}
