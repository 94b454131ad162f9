//! Two lists of rules side by side: which stand for each other, so that one rule more is one difference and not a
//! hundred.
//!
//! What both lists begin or end with is aligned as it stands. Between, equal rules are paired in the order of their occurrence; of these pairs the longest chain that keeps the order on
//! both sides is aligned (a longest increasing subsequence, O(n log n)), the other pairs are moved. Where rules
//! differ the lists have a longest common subsequence; with repeated rules the result may be shorter than that.

use std::collections::BTreeMap;

/// Positions in the wanted and in the found list.
pub(crate) struct Alignment {
    /// Equal and in order.
    pub(crate) aligned: Vec<(usize, usize)>,
    /// Equal, but not in order.
    pub(crate) moved: Vec<(usize, usize)>,
    /// Missing, extra, or changed where one of each stands in the same gap.
    pub(crate) differences: Vec<(Option<usize>, Option<usize>)>,
}

impl Alignment {
    pub(crate) fn of(wanted: &[String], found: &[String]) -> Alignment {
        let before = wanted.iter().zip(found).take_while(|(a, b)| a == b).count();
        let ends = wanted[before..].iter().rev().zip(found[before..].iter().rev());
        let after = ends.take_while(|(a, b)| a == b).count();
        let (to_wanted, to_found) = (wanted.len() - after, found.len() - after);
        let mut places: BTreeMap<&str, std::collections::VecDeque<usize>> = BTreeMap::new();
        for (at, key) in found.iter().enumerate().take(to_found).skip(before) {
            places.entry(key).or_default().push_back(at);
        }
        let pairs: Vec<(usize, usize)> = wanted
            .iter()
            .enumerate()
            .take(to_wanted)
            .skip(before)
            .filter_map(|(a, key)| places.get_mut(key.as_str())?.pop_front().map(|b| (a, b)))
            .collect();
        let in_order = longest_increasing(&pairs);
        let mut aligned: Vec<(usize, usize)> = (0..before).map(|at| (at, at)).collect();
        let mut moved = Vec::new();
        for (pair, kept) in pairs.into_iter().zip(in_order) {
            if kept { aligned.push(pair) } else { moved.push(pair) }
        }
        aligned.extend((to_wanted..wanted.len()).zip(to_found..found.len()));
        let differences = gaps(&aligned, &moved, wanted.len(), found.len());
        Alignment { aligned, moved, differences }
    }
}

/// Which of `pairs`, sorted by the first, are in a longest chain that increases in the second too.
fn longest_increasing(pairs: &[(usize, usize)]) -> Vec<bool> {
    // tails[n]: the pair that ends the chain of n + 1 pairs with the smallest end.
    let mut tails: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (i, &(_, b)) in pairs.iter().enumerate() {
        let length = tails.partition_point(|&tail| pairs[tail].1 < b);
        before.push(length.checked_sub(1).map(|n| tails[n]));
        match tails.get_mut(length) {
            Some(tail) => *tail = i,
            None => tails.push(i),
        }
    }
    let mut kept = vec![false; pairs.len()];
    let mut at = tails.last().copied();
    while let Some(i) = at {
        kept[i] = true;
        at = before[i];
    }
    kept
}

/// What has no partner, gap by gap between the aligned rules.
fn gaps(
    aligned: &[(usize, usize)],
    moved: &[(usize, usize)],
    wanted: usize,
    found: usize,
) -> Vec<(Option<usize>, Option<usize>)> {
    let mut has_partner = [vec![false; wanted], vec![false; found]];
    for &(a, b) in moved {
        has_partner[0][a] = true;
        has_partner[1][b] = true;
    }
    let alone = |side: usize, from: usize, to: usize| {
        (from..to).filter(|&at| !has_partner[side][at]).collect::<Vec<usize>>()
    };
    let mut out = Vec::new();
    let (mut a, mut b) = (0, 0);
    for &(next_a, next_b) in aligned.iter().chain(&[(wanted, found)]) {
        let (left, right) = (alone(0, a, next_a), alone(1, b, next_b));
        for i in 0..left.len().max(right.len()) {
            out.push((left.get(i).copied(), right.get(i).copied()));
        }
        (a, b) = (next_a + 1, next_b + 1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn align(wanted: &str, found: &str) -> Alignment {
        let split = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        Alignment::of(&split(wanted), &split(found))
    }

    #[test]
    fn one_rule_more_or_less_or_other_is_one_difference() {
        let rows = [
            ("abcd", "abxcd", vec![(None, Some(2))]),
            ("abcd", "acd", vec![(Some(1), None)]),
            ("abcd", "abxd", vec![(Some(2), Some(2))]),
            ("", "x", vec![(None, Some(0))]),
            ("abcd", "abcd", vec![]),
            ("abab", "bab", vec![(Some(0), None)]),
            ("aaa", "aaaa", vec![(None, Some(3))]),
        ];
        for (wanted, found, differences) in rows {
            let alignment = align(wanted, found);
            assert_eq!(alignment.differences, differences, "{wanted} {found}");
            assert_eq!(alignment.moved, []);
        }
    }

    #[test]
    fn two_neighbours_that_changed_places_are_one_move() {
        let alignment = align("abcd", "acbd");
        assert_eq!((alignment.moved.len(), alignment.differences.len()), (1, 0));
    }

    proptest! {
        #[test]
        fn every_rule_is_in_exactly_one_place(wanted in "[a-e]{0,12}", found in "[a-e]{0,12}") {
            let alignment = align(&wanted, &found);
            let pairs = alignment.aligned.iter().chain(&alignment.moved).map(|&(a, b)| (Some(a), Some(b)));
            let all: Vec<_> = pairs.chain(alignment.differences).collect();
            let mut left: Vec<usize> = all.iter().filter_map(|pair| pair.0).collect();
            let mut right: Vec<usize> = all.iter().filter_map(|pair| pair.1).collect();
            left.sort_unstable();
            right.sort_unstable();
            prop_assert_eq!(left, (0..wanted.len()).collect::<Vec<_>>());
            prop_assert_eq!(right, (0..found.len()).collect::<Vec<_>>());
            let rising = |list: &[(usize, usize)]| list.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1);
            prop_assert!(rising(&alignment.aligned));
        }
    }
}
