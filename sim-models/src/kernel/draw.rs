//! Decisions by chance, dictated and written down: what lets [`explore`](super::explore) take every way a packet can go.
//!
//! A [`Script`] inside [`KernelRandom`](super::hook::KernelRandom) dictates the outcomes of the first draws and writes
//! down all of them, with what else could have come out. Counting is as without it.
//!
//! Left out: plain 32-bit draws (a random source port, the `twos` scheduler), which are written down but never dictated:
//! their outcomes are too many to follow.

use sim_core::classify::hash::reciprocal_scale;

/// Scale of the random numbers behind a chance: `-m statistic` compares 31 bits.
pub const CHANCES: u32 = 1 << 31;

/// What was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrawKind {
    /// True with probability `p` / 2^31. Option 0 is true, option 1 false.
    Chance {
        /// The threshold.
        p: u32,
    },
    /// A number below `n`; option k is k.
    Below {
        /// The bound.
        n: u32,
    },
    /// 32 bits for a use of their own.
    Plain,
}

impl DrawKind {
    /// How many options there are.
    pub fn options(self) -> u32 {
        match self {
            DrawKind::Chance { .. } => 2,
            DrawKind::Below { n } => n,
            DrawKind::Plain => 1,
        }
    }

    /// Of how many equally likely numbers how many lead to `option`: numerator and denominator of its probability,
    /// exactly as the kernel's arithmetic gives it.
    pub fn share(self, option: u32) -> (u64, u64) {
        match self {
            DrawKind::Chance { p } => {
                let yes = u64::from(p.min(CHANCES));
                let of = u64::from(CHANCES);
                (if option == 0 { yes } else { of - yes }, of)
            }
            DrawKind::Below { n } => {
                // The numbers r with r * n / 2^32 == option.
                let first = |k: u32| (u64::from(k) << 32).div_ceil(u64::from(n));
                (first(option + 1) - first(option), 1 << 32)
            }
            DrawKind::Plain => (1, 1),
        }
    }

    /// The option that 32 random bits lead to.
    fn of(self, bits: u32) -> u32 {
        match self {
            DrawKind::Chance { p } => u32::from(bits & (CHANCES - 1) >= p),
            DrawKind::Below { n } => reciprocal_scale(bits, n),
            DrawKind::Plain => 0,
        }
    }
}

/// One draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// What was drawn.
    pub kind: DrawKind,
    /// Which option came out.
    pub option: u32,
}

/// Outcomes to come, and those that were.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Options of the first draws.
    pub choices: Vec<u32>,
    /// Beyond `choices`, let chance decide instead of taking the first option that is possible.
    pub by_chance: bool,
    /// Every draw so far.
    pub draws: Vec<Draw>,
}

impl Script {
    /// The option of the next draw, for which chance has `bits`.
    pub(super) fn decide(&mut self, kind: DrawKind, bits: u32) -> u32 {
        let option = match self.choices.get(self.draws.len()) {
            Some(&option) => option,
            None if self.by_chance => kind.of(bits),
            None => (0..kind.options()).find(|&o| kind.share(o).0 > 0).expect("some option is possible"),
        };
        self.draws.push(Draw { kind, option });
        option
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_options_add_up_to_one() {
        let kinds = [1u32, 2, 3, 7, 1000, 65_536].map(|n| DrawKind::Below { n });
        let chances = [0, 1, 715_827_883, CHANCES].map(|p| DrawKind::Chance { p });
        for kind in kinds.into_iter().chain(chances).chain([DrawKind::Plain]) {
            let of = kind.share(0).1;
            let sum: u64 = (0..kind.options()).map(|o| kind.share(o).0).sum();
            assert_eq!(sum, of, "{kind:?}");
        }
    }

    #[test]
    fn shares_say_which_random_numbers_lead_where() {
        let kind = DrawKind::Below { n: 3 };
        let first: u64 = kind.share(0).0;
        assert_eq!(kind.of(u32::try_from(first).unwrap() - 1), 0);
        assert_eq!(kind.of(u32::try_from(first).unwrap()), 1);
        let third = DrawKind::Chance { p: 715_827_883 };
        assert_eq!((third.of(715_827_882), third.of(715_827_883)), (0, 1));
    }
}
