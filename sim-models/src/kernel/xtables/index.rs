//! Long chains, indexed: the next rule that may match, and what the walk of `ip_tables.c:ipt_do_table` would have done
//! on the rules before it.
//!
//! A rule is evaluated in stages: addresses, devices, protocol, then matches in order; what a failed one cost depends
//! on the stage that it came to. How [`sim_core::classify::indexed`] keeps it:
//! * a rule for one destination (or, without one, for one source) by that address. Another packet fails at the first
//!   stage: one evaluation and the lines of the addresses;
//! * rules alike but for the destination port (`KUBE-NODEPORTS`) as members of a group. A packet that fits the group's
//!   addresses, devices and protocol runs every member's matches up to the ports, with the same outcome for each;
//!   what that takes is found by doing it once;
//! * anything else stays residual and is evaluated.
//!
//! Conditions, all decided when rules are put in: a rule is skipped only if failing it has no effect and depends on the
//! packet and its connection alone ([`is_pure`]); keys are header fields that no target changes; a packet has its
//! transport header (a fragment, or a packet cut short, may end the walk at a match of ports: it walks). A chain in
//! which residual rules are not few is walked.

use super::columns::{Columns, words4, words6};
use super::compile::{ChainRules, CompiledMatch, CompiledRule, CompiledTable, Entry};
use super::walk::rule_matches;
use crate::kernel::hook::PacketCx;
use ipnet::IpNet;
use sim_core::classify::indexed::{Indexed, Item, Key, PHASES, Place};
use sim_core::classify::{Packet, Unit, Work};
use smallvec::SmallVec;
use std::hash::Hasher as _;
use std::net::IpAddr;

/// Longest chain that is not indexed: trying a few rules is quicker.
pub(super) const SHORT_MAX: usize = 32;
/// Most groups of a chain.
const GROUPS_MAX: usize = 32;
/// With more rules than this for one address they are kept as groups, if they differ in ports.
const CROWD: usize = 16;

/// Address tests of a rule, in words of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Addrs {
    dst: [u32; 4],
    dst_mask: [u32; 4],
    src: [u32; 4],
    src_mask: [u32; 4],
}

impl Addrs {
    fn of(columns: &Columns, place: usize) -> Addrs {
        let wide = |w: [u32; 1]| [w[0], 0, 0, 0];
        match columns {
            Columns::V4(t) => {
                let t = t.test(place);
                Addrs {
                    dst: wide(t.dst),
                    dst_mask: wide(t.dst_mask),
                    src: wide(t.src),
                    src_mask: wide(t.src_mask),
                }
            }
            Columns::V6(t) => {
                let t = t.test(place);
                Addrs { dst: t.dst, dst_mask: t.dst_mask, src: t.src, src_mask: t.src_mask }
            }
        }
    }

    fn fit(&self, packet: &Packet) -> bool {
        let within = |addr: [u32; 4], value: [u32; 4], mask: [u32; 4]| {
            (0..4).all(|i| (addr[i] ^ value[i]) & mask[i] == 0)
        };
        within(words(packet.dst), self.dst, self.dst_mask)
            && within(words(packet.src), self.src, self.src_mask)
    }

    /// Hash of the one address that it takes to fit, and whether that is the source.
    fn exact(&self, bits: u32) -> Option<(u32, bool)> {
        let whole = |mask: [u32; 4]| mask.iter().map(|m| m.count_ones()).sum::<u32>() == bits;
        if whole(self.dst_mask) {
            Some((hash_addr(self.dst, Side::Dst), false))
        } else if whole(self.src_mask) {
            Some((hash_addr(self.src, Side::Src), true))
        } else {
            None
        }
    }
}

fn within(addr: [u32; 4], value: [u32; 4], mask: [u32; 4]) -> bool {
    (0..4).all(|i| (addr[i] ^ value[i]) & mask[i] == 0)
}

fn words(addr: IpAddr) -> [u32; 4] {
    match addr {
        IpAddr::V4(_) => [words4(addr)[0], 0, 0, 0],
        IpAddr::V6(_) => words6(addr),
    }
}

#[derive(Clone, Copy)]
enum Side {
    Dst = 1,
    Src = 2,
}

fn hash_addr(words: [u32; 4], side: Side) -> u32 {
    let mut hasher = super::bodies::Multiply(side as u64);
    hasher.write_u64(u64::from(words[0]) | u64::from(words[1]) << 32);
    if words[1] | words[2] | words[3] != 0 {
        hasher.write_u64(u64::from(words[2]) | u64::from(words[3]) << 32);
    }
    (hasher.finish() >> 32) as u32
}

fn hash_port(group: u8, port: u16) -> u32 {
    let mut hasher = super::bodies::Multiply(3);
    hasher.write_u64(u64::from(group) << 16 | u64::from(port));
    (hasher.finish() >> 32) as u32
}

/// Rules alike but for the destination port.
#[derive(Clone, Debug)]
pub(super) struct Group {
    addrs: Addrs,
    /// The rule up to the ports, which reads no lines.
    alike: CompiledRule,
    /// Lines of each member.
    body_lines: [u16; PHASES],
}

/// A test of the source that rules have in common. Those that fail it are told apart: the kernel compares less of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    src: [u32; 4],
    src_mask: [u32; 4],
    negated: Option<IpNet>,
}

/// The class of rules found by their source: one that is not a candidate has another. Other classes are those of
/// [`Keys::sources`] behind it.
const BY_SOURCE: u8 = 0;

/// What the keys of a chain refer to.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    groups: Vec<Group>,
    sources: Vec<Source>,
}

/// A chain of many rules.
#[derive(Clone, Debug)]
pub(super) struct LongChain {
    pub(super) places: Indexed,
    pub(super) keys: Keys,
    /// Whether a rule tests the source.
    pub(super) has_sources: bool,
}

/// Whether a match has no effect and its outcome and work follow from the packet, its connection and its devices: then
/// all rules of a group fare alike. Every match must be here; in doubt it is not pure, and its rule is residual.
fn is_pure(m: &CompiledMatch) -> bool {
    match m {
        CompiledMatch::Comment
        // Of a packet with its transport header.
        | CompiledMatch::Ports { .. }
        | CompiledMatch::Mark { .. }
        | CompiledMatch::Conntrack { .. }
        | CompiledMatch::AddrtypeLocal { .. }
        | CompiledMatch::PhysdevIsIn { .. }
        | CompiledMatch::IpvsVirtual { .. } => true,
        // A draw, a list, an object that counts; what is rare, or not known.
        CompiledMatch::Statistic { .. }
        | CompiledMatch::Recent { .. }
        | CompiledMatch::Set { .. }
        | CompiledMatch::Nfacct
        | CompiledMatch::Extra { .. }
        | CompiledMatch::Opaque => false,
    }
}

/// If the rule's fate is decided by one destination port once all before it was found pure: that port, and the place of
/// the match.
fn port_of(rule: &CompiledRule) -> Option<(u16, usize)> {
    let of = |m: &CompiledMatch| match m {
        CompiledMatch::Ports { sport: None, dport: Some(t), .. } if !t.invert && t.value.0 == t.value.1 => {
            Some(t.value.0)
        }
        _ => None,
    };
    let at = rule.matches.iter().position(|m| of(m).is_some() || !is_pure(m))?;
    Some((of(&rule.matches[at])?, at))
}

impl CompiledTable {
    /// Where the `len` rules from `first` on are kept as a chain.
    pub(super) fn chain_rules(&mut self, first: usize, len: usize) -> ChainRules {
        if len <= SHORT_MAX {
            return ChainRules::Short { first: first as u32, len: len as u32 };
        }
        let crowded = self.crowded(first, len);
        let mut chain = LongChain {
            places: Indexed::new(self.cost, &[], first),
            keys: Keys::default(),
            has_sources: false,
        };
        let items: Vec<Item> = (first..first + len)
            .map(|place| self.item(place, &self.rules.entries[place], &mut chain, &crowded))
            .collect();
        chain.places = Indexed::new(self.cost, &items, first);
        let number = match self.free_long.pop() {
            Some(number) => {
                self.long[number as usize] = chain;
                number
            }
            None => {
                self.long.push(chain);
                self.long.len() as u32 - 1
            }
        };
        ChainRules::Long(number)
    }

    fn bits(&self) -> u32 {
        match self.rules.addrs {
            Columns::V4(_) => 32,
            Columns::V6(_) => 128,
        }
    }

    /// Hashes of addresses with many rules, in order.
    fn crowded(&self, first: usize, len: usize) -> Vec<u32> {
        let exact = |place| Some(Addrs::of(&self.rules.addrs, place).exact(self.bits())?.0);
        let mut hashes: Vec<u32> = (first..first + len).filter_map(exact).collect();
        hashes.sort_unstable();
        let runs = hashes.chunk_by(|a, b| a == b).filter(|run| run.len() > CROWD);
        runs.map(|run| run[0]).collect()
    }

    /// How the index finds the rule at `place`, with that rule's `entry`. `crowded` are addresses with too many rules.
    pub(super) fn item(&self, place: usize, entry: &Entry, chain: &mut LongChain, crowded: &[u32]) -> Item {
        let rule = self.bodies.get(entry.body);
        let addrs = Addrs::of(&self.rules.addrs, place);
        let steps = rule.bytes / super::compile::STEP as u32;
        let negated = rule.negated.as_ref().and_then(|n| n.src);
        let tests_source = addrs.src_mask != [0; 4] || negated.is_some();
        chain.has_sources |= tests_source;
        let exact = addrs.exact(self.bits());
        let key = match exact {
            Some((hash, _)) if crowded.binary_search(&hash).is_err() => Key::Exact(hash),
            _ => match member(rule, addrs, &mut chain.keys.groups) {
                Some(key) => key,
                None => exact.map_or(Key::Residual, |(hash, _)| Key::Exact(hash)),
            },
        };
        let class = match (key, exact) {
            _ if !tests_source => None,
            (Key::Residual, _) => None,
            (Key::Exact(_), Some((_, true))) => Some(BY_SOURCE),
            _ => {
                let source = Source { src: addrs.src, src_mask: addrs.src_mask, negated };
                match chain.keys.sources.iter().position(|s| *s == source) {
                    Some(known) => Some(known as u8 + 1),
                    None if chain.keys.sources.len() < GROUPS_MAX => {
                        chain.keys.sources.push(source);
                        Some(chain.keys.sources.len() as u8)
                    }
                    // It cannot be counted, so it is looked at.
                    None => return Item { steps, key: Key::Residual, class: None },
                }
            }
        };
        Item { steps, key, class }
    }

    /// The first rule of a long chain from `from` on that matches whole; counts every rule evaluated on the way.
    pub(super) fn next_indexed(
        &self,
        long: &LongChain,
        mut from: Place,
        begin: u8,
        cx: &mut PacketCx<'_>,
    ) -> Option<Place> {
        // Matches change neither addresses nor ports nor what groups look at.
        let mut hashes: SmallVec<[u32; 8]> = SmallVec::new();
        hashes.push(hash_addr(words(cx.packet.dst), Side::Dst));
        if long.has_sources {
            hashes.push(hash_addr(words(cx.packet.src), Side::Src));
        }
        let mut met: SmallVec<[u8; 8]> = SmallVec::new();
        for (number, group) in (0u8..).zip(&long.keys.groups) {
            if !group.addrs.fit(&cx.packet) {
                continue;
            }
            // What it counts is counted with the members; here it only matters how far the packet comes.
            let before = *cx.work;
            if rule_matches(&group.alike, 0, cx) {
                hashes.push(hash_port(number, cx.packet.dport));
            }
            if cx.work[Unit::RuleAddrHits] != before[Unit::RuleAddrHits] {
                met.push(number);
            }
            *cx.work = before;
        }
        let mut missed: SmallVec<[u8; 8]> = SmallVec::new();
        if long.has_sources {
            missed.push(BY_SOURCE);
            let tests = (BY_SOURCE + 1..).zip(&long.keys.sources);
            missed.extend(tests.filter(|(_, test)| !test.fits(&cx.packet)).map(|(class, _)| class));
        }
        let end = long.places.end();
        loop {
            let next = long.places.next(from, &hashes);
            let stretch = long.places.stretch(from..next, begin);
            let misses: u32 = missed.iter().map(|&class| long.places.classed(class, from..next)).sum();
            cx.work[Unit::RuleEvals] += stretch.rules;
            cx.work[Unit::RuleSrcHits] += stretch.rules - misses;
            cx.work[Unit::LinesStream] += stretch.lines;
            for &number in &met {
                let group = &long.keys.groups[usize::from(number)];
                group.count(long.places.members(number, from..next), begin, cx);
            }
            if next == end {
                return None;
            }
            let phase = (begin + long.places.phase(next)) % PHASES as u8;
            if self.matches_at(long.places.store(next), phase, cx) {
                return Some(next);
            }
            from = next + 1;
        }
    }
}

impl Source {
    fn fits(&self, packet: &Packet) -> bool {
        within(words(packet.src), self.src, self.src_mask)
            && self.negated.is_none_or(|net| !net.contains(&packet.src))
    }
}

impl Group {
    /// Adds the work of members that fail at their port or before.
    fn count(&self, members: [u32; PHASES], begin: u8, cx: &mut PacketCx<'_>) {
        let number: u32 = members.iter().sum();
        if number == 0 {
            return;
        }
        let before: Work = *cx.work;
        if rule_matches(&self.alike, 0, cx) {
            cx.work[Unit::MatchPorts] += 1;
        }
        let reads_body = cx.work[Unit::RuleIpHits] > before[Unit::RuleIpHits];
        cx.work.repeat_since(&before, number);
        if !reads_body {
            return;
        }
        for (phase, members) in members.into_iter().enumerate() {
            let lines = self.body_lines[(phase + usize::from(begin)) % PHASES];
            cx.work[Unit::LinesChase] += members * u32::from(lines);
        }
    }
}

/// The group that the rule belongs to, found or made.
fn member(rule: &CompiledRule, addrs: Addrs, groups: &mut Vec<Group>) -> Option<Key> {
    let (port, at) = port_of(rule)?;
    let alike = |g: &Group| {
        g.addrs == addrs
            && g.body_lines == rule.body_lines
            && g.alike.matches[..] == rule.matches[..at]
            && (&g.alike.negated, &g.alike.ifaces, &g.alike.proto)
                == (&rule.negated, &rule.ifaces, &rule.proto)
    };
    let group = match groups.iter().position(alike) {
        Some(known) => known,
        None if groups.len() == GROUPS_MAX => return None,
        None => {
            let alike =
                CompiledRule { matches: rule.matches[..at].into(), body_lines: [0; PHASES], ..rule.clone() };
            groups.push(Group { addrs, alike, body_lines: rule.body_lines });
            groups.len() - 1
        }
    };
    let group = group as u8;
    Some(Key::Member { group, hash: hash_port(group, port) })
}

impl LongChain {
    /// Bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.places.memory_bytes() + self.keys.groups.capacity() * size_of::<Group>()
    }
}
