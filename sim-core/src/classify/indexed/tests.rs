//! The indexed sequence against walking: true byte offsets, true sets of lines.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Rules of 152 to 528 bytes that read bytes 0..16 and 80..92, as IPv4 rules of a packet filter do.
const READ: [Range<u64>; 2] = [0..16, 80..92];
const LINE: u64 = 64;

fn lines_at(offset: u64) -> BTreeSet<u64> {
    READ.into_iter().flat_map(|r| (offset + r.start) / LINE..=(offset + r.end - 1) / LINE).collect()
}

fn cost() -> [u8; PHASES] {
    std::array::from_fn(|phase| lines_at(phase as u64 * 8).len() as u8)
}

/// A store of rules' numbers.
#[derive(Default)]
struct Numbers(Vec<u32>);

impl Store for Numbers {
    fn allocate(&mut self, count: usize) -> usize {
        self.0.resize(self.0.len() + count, u32::MAX);
        self.0.len() - count
    }
    fn shift(&mut self, from: Range<usize>, to: usize) {
        self.0.copy_within(from, to);
    }
    fn release(&mut self, range: Range<usize>) {
        self.0[range].fill(u32::MAX);
    }
}

/// The same rules as a plain list.
#[derive(Default, Clone, Debug)]
struct Plain {
    rules: Vec<(u32, Item)>,
}

impl Plain {
    fn offset(&self, rank: usize) -> u64 {
        self.rules[..rank].iter().map(|(_, i)| u64::from(i.steps) * 8).sum()
    }
    fn lines(&self, range: Range<usize>, begin: u64) -> u32 {
        let mut lines = BTreeSet::new();
        for rank in range {
            lines.extend(lines_at(begin + self.offset(rank)));
        }
        lines.len() as u32
    }
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        1 => Just(Key::Residual),
        30 => (0u32..200).prop_map(|n| Key::Exact(n.wrapping_mul(0x9e37_79b9))),
        10 => (0u8..3, 0u32..40).prop_map(|(group, n)| Key::Member {
            group,
            hash: (n + 1000 * (u32::from(group) + 1)).wrapping_mul(0x9e37_79b9)
        }),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    (19u32..66, key(), prop::option::weighted(0.2, 0u8..3)).prop_map(|(steps, key, class)| Item {
        steps,
        key,
        class,
    })
}

fn check(index: &Indexed, store: &Numbers, plain: &Plain, probe: (usize, usize, u8, Vec<u32>)) {
    let len = plain.rules.len();
    assert_eq!(index.len(), len);
    assert_eq!(index.rank(index.end()) as usize, len);
    let (a, b, phase, values) = probe;
    let (a, b) = (a % (len + 1), b % (len + 1));
    let (from, to) = (a.min(b), a.max(b));
    let (start, end) = (index.place(from), index.place(to));
    assert_eq!((index.rank(start) as usize, index.rank(end) as usize), (from, to));
    for rank in from..to {
        let place = index.place(rank);
        assert_eq!(store.0[index.store(place)], plain.rules[rank].0, "rule {rank}");
        assert_eq!(u64::from(index.phase(place)), plain.offset(rank) / 8 % 8, "phase of {rank}");
    }
    let stretch = index.stretch(start..end, phase);
    let lines = plain.lines(from..to, 640 + u64::from(phase) * 8);
    assert_eq!(stretch, Stretch { rules: (to - from) as u32, lines }, "{from}..{to} at {phase}");
    for group in 0..4 {
        let mut members = [0; PHASES];
        for rank in from..to {
            if matches!(plain.rules[rank].1.key, Key::Member { group: g, .. } if g == group) {
                members[(plain.offset(rank) / 8 % 8) as usize] += 1;
            }
        }
        let counted = index.members(group, start..end);
        // A member whose list was full has become residual: it is stopped at, not counted.
        if index.is_indexed() {
            assert!(counted.iter().zip(members).all(|(c, m)| *c <= m), "{counted:?} {members:?}");
        }
    }
    for class in 0..4 {
        let classed = plain.rules[from..to].iter().filter(|r| r.1.class == Some(class)).count();
        assert_eq!(index.classed(class, start..end) as usize, classed);
    }
    let mut walked = Vec::new();
    let mut at = start;
    while let Some((range, place)) = index.side_by_side(at) {
        walked.extend_from_slice(&store.0[range.clone()]);
        at = place + range.len();
    }
    assert!(walked.iter().eq(plain.rules[from..].iter().map(|(number, _)| number)));
    if index.is_indexed() {
        let hashes: Vec<u32> = values.iter().map(|v| v.wrapping_mul(0x9e37_79b9)).collect();
        let found = index.rank(index.next(start, &hashes)) as usize;
        let may = |item: &Item| match item.key {
            Key::Residual => true,
            Key::Exact(hash) | Key::Member { hash, .. } => hashes.contains(&hash),
        };
        let first = (from..len).find(|&rank| may(&plain.rules[rank].1)).unwrap_or(len);
        // It stops no later; sooner only where a full list made a rule residual.
        assert!(found <= first, "{found} behind {first}");
        let key = plain.rules.get(found).map(|r| r.1.key);
        let same = plain.rules.iter().filter(|r| Some(r.1.key) == key).count();
        assert!(found == first || same > postings::SAME_MAX, "{found} is no candidate before {first}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn sums_places_and_candidates_are_those_of_a_plain_list(
        items in prop::collection::vec(item(), 0..700),
        changes in prop::collection::vec((0usize..10_000, prop::option::of(item())), 0..200),
        probes in prop::collection::vec(
            (0usize..10_000, 0usize..10_000, 0u8..8, prop::collection::vec(0u32..4_000, 0..4)), 1..12),
    ) {
        let mut plain = Plain { rules: items.iter().enumerate().map(|(n, &i)| (n as u32, i)).collect() };
        let mut store = Numbers((0..items.len() as u32).collect());
        let mut index = Indexed::new(cost(), &items, 0);
        for probe in &probes {
            check(&index, &store, &plain, probe.clone());
        }
        for (number, (place, item)) in changes.into_iter().enumerate() {
            match item {
                Some(item) => {
                    let rank = place % (plain.rules.len() + 1);
                    let slot = index.insert(rank, item, &mut store);
                    store.0[slot] = 1_000_000 + number as u32;
                    plain.rules.insert(rank, (1_000_000 + number as u32, item));
                }
                None if !plain.rules.is_empty() => {
                    let rank = place % plain.rules.len();
                    index.remove(rank, &mut store);
                    plain.rules.remove(rank);
                }
                None => {}
            }
            check(&index, &store, &plain, probes[number % probes.len()].clone());
        }
    }
}

#[test]
fn a_sequence_that_grows_from_nothing_and_shrinks_to_nothing_stays_whole() {
    let mut store = Numbers::default();
    let mut index = Indexed::new(cost(), &[], 0);
    let item = |n: u32| Item { steps: 19 + n % 40, key: Key::Exact(n), class: None };
    for n in 0..1_000u32 {
        let slot = index.insert(n as usize / 2, item(n), &mut store);
        store.0[slot] = n;
    }
    assert!(index.is_indexed());
    for n in 0..1_000u32 {
        let place = index.next(0, &[n]);
        assert_eq!(store.0[index.store(place)], n);
    }
    for _ in 0..1_000 {
        index.remove(index.len() / 3, &mut store);
    }
    assert!(index.is_empty() && index.next(0, &[7]) == index.end());
}

#[test]
fn too_many_residual_rules_are_walked() {
    let residual = Item { steps: 25, key: Key::Residual, class: None };
    let exact = |n| Item { steps: 25, key: Key::Exact(n), class: None };
    let items: Vec<Item> = (0..96).map(|n| if n < 3 { residual } else { exact(n) }).collect();
    assert!(Indexed::new(cost(), &items, 0).is_indexed());
    assert!(!Indexed::new(cost(), &items[..95], 0).is_indexed());
}

/// Ways to be wrong about lines and places, each of which the comparison above must see.
#[derive(Clone, Copy, Debug)]
enum Mutation {
    /// The phase that the sequence begins at is forgotten.
    NoBegin,
    /// Blocks do not begin where the ones before them end.
    NoBlockPhase,
    /// A rule's phase is one eighth too far.
    PhaseOff,
    /// A rule of the worst phase reads a line less.
    Straddle,
    /// One block's sum is left out.
    LostBlock,
    /// One line too many at one place in a block.
    LineTooMany,
    /// Members are counted at their phase in the block.
    MembersUnturned,
    /// A member is lost.
    MemberLost,
    /// A residual rule is not stopped at.
    ResidualLost,
    /// A posting is lost.
    PostingLost,
}

impl Mutation {
    const ALL: [Mutation; 10] = [
        Mutation::NoBegin,
        Mutation::NoBlockPhase,
        Mutation::PhaseOff,
        Mutation::Straddle,
        Mutation::LostBlock,
        Mutation::LineTooMany,
        Mutation::MembersUnturned,
        Mutation::MemberLost,
        Mutation::ResidualLost,
        Mutation::PostingLost,
    ];

    fn make(self, index: &mut Indexed) {
        let last = index.blocks.len() - 1;
        match self {
            Mutation::NoBegin => {
                for block in &mut index.blocks {
                    block.lines = [block.lines[0]; PHASES];
                }
            }
            Mutation::NoBlockPhase => index.blocks.iter_mut().for_each(|b| b.phase = 0),
            Mutation::PhaseOff => index.blocks[1].phases[5] = turned(index.blocks[1].phases[5], 1) as u8,
            Mutation::Straddle => {
                index.cost = [index.cost[0]; PHASES];
                (0..=last).for_each(|b| index.sum_block(b));
                index.sum_blocks();
            }
            Mutation::LostBlock => index.blocks[last].lines = index.blocks[last - 1].lines,
            Mutation::LineTooMany => index.blocks[1].sums[77][3] += 1,
            Mutation::MembersUnturned => {
                for block in &mut index.blocks {
                    for (_, members) in &mut block.members {
                        members.rotate_left(1);
                    }
                }
            }
            Mutation::MemberLost => index.groups[0][last][2] -= 1,
            Mutation::ResidualLost => {
                let block = index.blocks.iter_mut().find(|b| b.residual != 0).expect("there is one");
                block.residual = 0;
                index.residual.fill(0);
            }
            Mutation::PostingLost => {
                let block = &index.blocks[2];
                let (number, hash) =
                    block.keys.iter().enumerate().find_map(|(n, k)| Some((n, k.hash()?))).expect("one");
                let postings = index.postings.as_mut().expect("indexed");
                postings.remove(hash, (2 << NUMBER_BITS | number) as u32);
            }
        }
    }
}

#[test]
fn every_mutation_of_the_line_algebra_is_caught() {
    let items: Vec<Item> = (0..900u32)
        .map(|n| {
            let key = match n % 9 {
                0 => Key::Member { group: 0, hash: (10_000 + n).wrapping_mul(0x9e37_79b9) },
                _ if n == 400 => Key::Residual,
                _ => Key::Exact(n.wrapping_mul(0x9e37_79b9)),
            };
            // Lengths in no order: blocks of one in a regular order read as many lines from any phase.
            Item { steps: 19 + n.wrapping_mul(0x9e37_79b9).rotate_left(9) % 41, key, class: None }
        })
        .collect();
    let plain = Plain { rules: items.iter().enumerate().map(|(n, &i)| (n as u32, i)).collect() };
    let store = Numbers((0..900).collect());
    let all = |index: &Indexed| {
        for (from, to) in [(0, 900), (0, 400), (130, 205), (205, 890), (256, 257), (390, 410), (300, 300)] {
            for begin in 0..8 {
                check(index, &store, &plain, (from, to, begin, vec![10_603, 301]));
            }
        }
        // Members to the last: a member that is lost is one too few.
        let members: u32 = index.members(0, 0..index.end()).iter().sum();
        assert_eq!(members, 100);
        for (rank, item) in items.iter().enumerate() {
            let hashes: Vec<u32> = item.key.hash().into_iter().collect();
            assert_eq!(index.rank(index.next(index.place(rank), &hashes)) as usize, rank);
        }
    };
    let index = Indexed::new(cost(), &items, 0);
    all(&index);
    for mutation in Mutation::ALL {
        let mut wrong = index.clone();
        mutation.make(&mut wrong);
        let caught = std::panic::catch_unwind(|| all(&wrong)).is_err();
        assert!(caught, "{mutation:?} is not seen");
    }
}
