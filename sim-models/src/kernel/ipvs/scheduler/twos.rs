//! `twos`: the less loaded of two random destinations, both drawn by weight (`ip_vs_twos.c`).
//!
//! Two passes over the list and two random numbers a choice. Both draws may name the same destination.

use super::{Dest, ScheduleCx, Scheduler};

/// Power of two random choices.
#[derive(Debug, Default)]
pub struct TwoRandomChoices;

/// `get_random_u32_below`: unbiased by rejection, each try one number.
fn below(cx: &mut ScheduleCx<'_>, bound: u32) -> u32 {
    loop {
        let wide = u64::from(cx.random.u32(cx.work)) * u64::from(bound);
        let low = wide as u32;
        if low >= bound || low >= bound.wrapping_neg() % bound {
            return (wide >> 32) as u32;
        }
    }
}

impl Scheduler for TwoRandomChoices {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        cx.looked_at(dests.len());
        let total: u32 = dests.iter().filter(|d| d.is_eligible()).map(|d| d.weight).sum();
        if total == 0 {
            return None;
        }
        let draws = [below(cx, total + 1), below(cx, total + 1)];
        let mut picks = [None; 2];
        let mut reached = 0;
        let mut looked = 0;
        for (at, dest) in dests.iter().enumerate() {
            looked += 1;
            if !dest.is_eligible() {
                continue;
            }
            reached += dest.weight;
            for (pick, draw) in picks.iter_mut().zip(draws) {
                if pick.is_none() && draw <= reached {
                    *pick = Some(at);
                }
            }
            if picks.iter().all(Option::is_some) {
                break;
            }
        }
        cx.looked_at(looked);
        let [first, second] = picks.map(|pick| pick.expect("a draw is at most the sum of weights"));
        let load = |at: usize, other: usize| dests[at].overhead(cx.overhead) * u64::from(dests[other].weight);
        Some(if load(first, second) > load(second, first) { second } else { first })
    }
}
