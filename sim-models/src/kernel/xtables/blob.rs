//! Where chains begin in a table's blob, as far as that decides which cache lines a rule reads: the phase of each
//! chain's begin, in eighths of a line.
//!
//! The blob is one piece of memory, so that a chain that grows moves all behind it. Chains are kept in blocks and
//! phases are relative to the block's, so that a change touches the chains of one block and one number of each
//! block behind it.

use sim_core::classify::indexed::PHASES;

/// Chains put into a block at first, and most that one may hold.
const FILL: usize = 256;
const CHAINS_MAX: usize = 512;

#[derive(Clone, Copy, Debug, Default)]
struct Spot {
    block: u32,
    /// Of the chain's begin, relative to the block's.
    phase: u8,
    /// Length of the chain in eighths of a line, modulo eight.
    steps: u8,
}

/// Chains of one table in the order of the blob.
#[derive(Clone, Debug, Default)]
pub(super) struct Blob {
    spots: Vec<Spot>,
    /// Chains by block.
    blocks: Vec<Vec<u32>>,
    /// By block: phase of its begin, and its length.
    phases: Vec<u8>,
    steps: Vec<u8>,
    /// Blocks in order.
    order: Vec<u32>,
}

fn sum(a: u8, b: u8) -> u8 {
    (a + b) % PHASES as u8
}

impl Blob {
    /// Appends a chain of `steps` eighths of a line; `chain` is its number.
    pub(super) fn push(&mut self, chain: usize, steps: u64) {
        let full = |b: &u32| self.blocks[*b as usize].len() >= FILL;
        let last = match self.order.last().filter(|b| !full(b)) {
            Some(&block) => block,
            None => {
                let phase =
                    self.order.last().map_or(0, |&b| sum(self.phases[b as usize], self.steps[b as usize]));
                self.order.push(self.blocks.len() as u32);
                self.blocks.push(Vec::with_capacity(FILL));
                self.phases.push(phase);
                self.steps.push(0);
                self.order[self.order.len() - 1]
            }
        };
        let block = last as usize;
        let steps = (steps % PHASES as u64) as u8;
        self.blocks[block].push(chain as u32);
        self.set(chain, Spot { block: last, phase: self.steps[block], steps });
        self.steps[block] = sum(self.steps[block], steps);
    }

    fn set(&mut self, chain: usize, spot: Spot) {
        if self.spots.len() <= chain {
            self.spots.resize(chain + 1, Spot::default());
        }
        self.spots[chain] = spot;
    }

    /// The phase at which the chain begins, its head included.
    #[inline]
    pub(super) fn phase(&self, chain: usize) -> u8 {
        let spot = self.spots[chain];
        sum(self.phases[spot.block as usize], spot.phase)
    }

    /// The chain has another length now.
    pub(super) fn resize(&mut self, chain: usize, steps: u64) {
        self.spots[chain].steps = (steps % PHASES as u64) as u8;
        self.sum(self.spots[chain].block as usize);
    }

    /// Puts a chain behind another.
    pub(super) fn insert_after(&mut self, before: usize, chain: usize, steps: u64) {
        let block = self.spots[before].block;
        let chains = &mut self.blocks[block as usize];
        let at = chains.iter().position(|&c| c as usize == before).expect("it is in its block") + 1;
        chains.insert(at, chain as u32);
        self.set(chain, Spot { block, phase: 0, steps: (steps % PHASES as u64) as u8 });
        if self.blocks[block as usize].len() > CHAINS_MAX {
            let second = self.blocks[block as usize].split_off(CHAINS_MAX / 2);
            let id = self.blocks.len() as u32;
            for &chain in &second {
                self.spots[chain as usize].block = id;
            }
            self.blocks.push(second);
            self.phases.push(0);
            self.steps.push(0);
            let at = self.order.iter().position(|&b| b == block).expect("it is in the order") + 1;
            self.order.insert(at, id);
            self.sum(id as usize);
        }
        self.sum(block as usize);
    }

    /// Takes a chain out.
    pub(super) fn remove(&mut self, chain: usize) {
        let block = self.spots[chain].block as usize;
        self.blocks[block].retain(|&c| c as usize != chain);
        self.sum(block);
    }

    /// Phases in one block, and of all blocks.
    fn sum(&mut self, block: usize) {
        let mut phase = 0;
        for &chain in &self.blocks[block] {
            let spot = &mut self.spots[chain as usize];
            spot.phase = phase;
            phase = sum(phase, spot.steps);
        }
        self.steps[block] = phase;
        let mut phase = 0;
        for &block in &self.order {
            self.phases[block as usize] = phase;
            phase = sum(phase, self.steps[block as usize]);
        }
    }

    /// Chains in order.
    pub(super) fn chains(&self) -> impl Iterator<Item = usize> + '_ {
        self.order.iter().flat_map(|&b| &self.blocks[b as usize]).map(|&c| c as usize)
    }

    /// Bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.spots.capacity() * size_of::<Spot>()
            + self.blocks.iter().map(|b| size_of::<Vec<u32>>() + b.capacity() * 4).sum::<usize>()
            + self.order.capacity() * 6
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_chain_begins_where_the_ones_before_it_end(
            first in prop::collection::vec(1u64..100, 1..1_500),
            changes in prop::collection::vec((0u8..4, 0usize..100_000, 1u64..100), 0..60),
            // Enough behind one chain that its block is split.
            crowd in 0usize..300,
        ) {
            let mut blob = Blob::default();
            let mut plain: Vec<(usize, u64)> = first.into_iter().enumerate().collect();
            plain.iter().for_each(|&(chain, steps)| blob.push(chain, steps));
            let mut next = plain.len();
            let crowd = (0..crowd).map(|_| (2, 0, 7));
            for (what, at, steps) in crowd.chain(changes) {
                let at = at % plain.len();
                match what {
                    0 => {
                        plain[at].1 = steps;
                        blob.resize(plain[at].0, steps);
                    }
                    1 if plain.len() > 1 => blob.remove(plain.remove(at).0),
                    _ => {
                        blob.insert_after(plain[at].0, next, steps);
                        plain.insert(at + 1, (next, steps));
                        next += 1;
                    }
                }
            }
            prop_assert!(blob.chains().eq(plain.iter().map(|&(chain, _)| chain)));
            let mut begin = 0;
            for (chain, steps) in plain {
                prop_assert_eq!(u64::from(blob.phase(chain)), begin % 8, "chain {}", chain);
                begin += steps;
            }
        }
    }
}
