//! Work of the kinds that most expressions are of, counted eight at a time: each kind has eight bits of one word.

use super::expr::Expr;
use sim_core::classify::{Unit, Work};

/// The kinds, lowest bits first.
const UNITS: [Unit; 8] = [
    Unit::NftPayload,
    Unit::NftMeta,
    Unit::NftCt,
    Unit::NftCmp,
    Unit::NftBitwise,
    Unit::NftImmediate,
    Unit::NftLookup,
    Unit::NftCounter,
];

/// Most expressions of a rule (`NFT_RULE_MAXEXPRS`).
pub(super) const RULE_EXPRS_MAX: usize = 128;
/// Expressions that may be counted before the word is emptied: with another rule no kind overflows.
const FULL: u32 = 127;

/// Counts of a rule's expressions up to one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted(u64);

impl Counted {
    /// With another expression.
    pub fn and(self, expr: &Expr) -> Self {
        let place = expr.unit().and_then(|unit| UNITS.iter().position(|u| *u == unit));
        Counted(self.0 + place.map_or(0, |place| 1 << (8 * place)))
    }
}

/// Counts of many rules.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    counts: u64,
    exprs: u32,
}

impl Tally {
    /// Adds a rule of which so many expressions were run.
    #[inline]
    pub fn add(&mut self, counted: Counted, exprs: u32, work: &mut Work) {
        self.counts += counted.0;
        self.exprs += exprs;
        if self.exprs > FULL {
            self.flush(work);
        }
    }

    /// Moves the counts into `work`.
    pub fn flush(&mut self, work: &mut Work) {
        for (unit, count) in UNITS.into_iter().zip(self.counts.to_le_bytes()) {
            work[unit] += u32::from(count);
        }
        *self = Tally::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::expr::{Cmp, Counter};
    use super::*;

    #[test]
    fn rules_as_long_as_the_kernel_takes_overflow_no_count() {
        let cmp = Expr::Cmp(Cmp::Word { sreg: 0, value: 0, neq: false });
        let long = (0..RULE_EXPRS_MAX - 1).fold(Counted::default(), |c, _| c.and(&cmp));
        let long = long.and(&Expr::Counter(Counter));
        let (mut tally, mut work) = (Tally::default(), Work::new());
        for _ in 0..1000 {
            tally.add(Counted::default().and(&cmp), 1, &mut work);
            tally.add(long, RULE_EXPRS_MAX as u32, &mut work);
        }
        tally.flush(&mut work);
        assert_eq!((work[Unit::NftCmp], work[Unit::NftCounter], work[Unit::NftMeta]), (128_000, 1000, 0));
    }
}
