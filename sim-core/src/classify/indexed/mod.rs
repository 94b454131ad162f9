//! The indexed sequence: where a linear walk would stop next, and what it would have read on the way, without walking.
//!
//! A sequence of rules is tried one after another. Most are for one exact value, and a packet with another one fails
//! them in a way that costs the same whatever the packet. So the rules that *may* match are found by posting lists
//! ([`postings`]), and what the others between them cost is the difference of two prefix sums:
//! * how many there are (ranks);
//! * distinct cache lines. A rule begins at a multiple of an eighth of a line, its *phase*; the lines that it reads
//!   depend on its phase only, as long as rules are too long to share one. Sums are kept for all eight phases that the
//!   sequence may begin at, so that a change in front of it moves one number;
//! * members of *groups*: rules alike but for one value, which all survive up to the test of that value. A packet that
//!   comes so far pays for each of them; they are counted by phase;
//! * rules of a *class*, which have one more test in common.
//!
//! Rules whose cost or outcome is not known beforehand (*residual*: chances, lists that change) are in no posting list
//! and are stopped at, all of them. Every place that is stopped at is a candidate: the caller evaluates it in full, so
//! that a posting too many costs time and nothing else.
//!
//! Sums are two-level, a block of up to [`BLOCK_MAX`] rules and the blocks before it, so that an insertion or a removal
//! rewrites one block and the list of blocks. The caller keeps the rules themselves in a [`Store`], a block side by side.

pub mod postings;

use postings::Postings;
use std::ops::Range;

/// Phases of a rule's begin within a cache line.
pub const PHASES: usize = 8;
/// Most rules in a block.
pub const BLOCK_MAX: usize = 128;
/// A residual rule among fewer others than this: walking is quicker than stopping so often.
const OTHERS_PER_RESIDUAL: usize = 32;

const BLOCK_BITS: u32 = 8;
const NUMBER_BITS: u32 = 7;

/// How an index finds a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// It is always stopped at.
    Residual,
    /// By an exact value: a packet with a value of another hash fails the rule at once.
    Exact(u32),
    /// By the value (as a hash) that sets it apart from the others of its group.
    Member {
        /// The group, counted from zero.
        group: u8,
        /// Hash of the value.
        hash: u32,
    },
}

impl Key {
    fn hash(self) -> Option<u32> {
        match self {
            Key::Residual => None,
            Key::Exact(hash) | Key::Member { hash, .. } => Some(hash),
        }
    }
}

/// A rule as the index sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its length in eighths of a line; only the remainder by eight counts.
    pub steps: u32,
    /// How it is found.
    pub key: Key,
    /// A class that rules in a stretch are counted by, from zero: what of them cost something of its own.
    pub class: Option<u8>,
}

/// A place between rules, in order: zero is before the first, and one more than a rule's is behind it. Good until the
/// sequence changes.
pub type Place = usize;

/// What stretches of rules cost: rules and lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Rules in it.
    pub rules: u32,
    /// Distinct lines that failing all of them reads.
    pub lines: u32,
}

/// Where the caller keeps rules: columns that grow at their end.
pub trait Store {
    /// Makes room for `count` rules side by side; returns the first.
    fn allocate(&mut self, count: usize) -> usize;
    /// Moves rules; the ranges may overlap.
    fn shift(&mut self, from: Range<usize>, to: usize);
    /// These are not needed any more.
    fn release(&mut self, range: Range<usize>);
}

#[derive(Clone, Debug, Default)]
struct Block {
    /// First of its rules in the store.
    store: usize,
    /// Rules that have a place there.
    room: usize,
    order: usize,
    /// Rules before it.
    rank: u32,
    /// Of its begin, relative to the sequence's.
    phase: u8,
    /// Lines of all blocks before, by the phase of the sequence's begin.
    lines: [u32; PHASES],
    keys: Vec<Key>,
    classes: Vec<Option<u8>>,
    /// By rule, and for the end: phase relative to the block's begin.
    phases: Vec<u8>,
    /// By rule, and for the end: lines of the rules before it in the block, by the phase of the block's begin.
    sums: Vec<[u16; PHASES]>,
    residual: u128,
    /// Members of groups, by their phase relative to the block's begin.
    members: Vec<(u8, [u128; PHASES])>,
    classed: Vec<(u8, u128)>,
}

/// A sequence of rules with its index. See the module's head.
#[derive(Clone, Debug)]
pub struct Indexed {
    /// Lines of a rule that fails at once, by its phase.
    cost: [u8; PHASES],
    blocks: Vec<Block>,
    /// Numbers of blocks in order.
    order: Vec<u32>,
    /// Blocks with residual rules, by order.
    residual: Vec<u64>,
    /// `None`: not worth it, the caller walks.
    postings: Option<Postings>,
    /// By group and order of blocks: members in all blocks before, by phase relative to the sequence's begin.
    groups: Vec<Vec<[u32; PHASES]>>,
    /// By class and order of blocks: rules in all blocks before.
    classes: Vec<Vec<u32>>,
    len: usize,
}

fn at(order: usize, number: usize) -> Place {
    order << BLOCK_BITS | number
}

fn split(place: Place) -> (usize, usize) {
    (place >> BLOCK_BITS, place & ((1 << BLOCK_BITS) - 1))
}

/// The bits from `number` on.
fn from_bit(number: usize) -> u128 {
    if number >= BLOCK_MAX { 0 } else { u128::MAX << number }
}

fn is_worth_it(residuals: usize, len: usize) -> bool {
    residuals * OTHERS_PER_RESIDUAL <= len.max(OTHERS_PER_RESIDUAL)
}

/// Phases add up.
fn turned(begin: u8, phase: u8) -> usize {
    usize::from(begin + phase) % PHASES
}

impl Indexed {
    /// Indexes `items`, which stand side by side in the store from `first` on. `cost` is the lines that a rule reads
    /// which fails at once, by its phase.
    pub fn new(cost: [u8; PHASES], items: &[Item], first: usize) -> Self {
        let mut out = Indexed {
            cost,
            blocks: Vec::with_capacity(items.len().div_ceil(BLOCK_MAX).max(1)),
            order: Vec::new(),
            residual: Vec::new(),
            postings: None,
            groups: Vec::new(),
            classes: Vec::new(),
            len: items.len(),
        };
        let residuals = items.iter().filter(|i| i.key == Key::Residual).count();
        if is_worth_it(residuals, items.len()) {
            out.postings = Some(Postings::with_room(items.len()));
        }
        let chunks = items.chunks(BLOCK_MAX).chain(items.is_empty().then_some(items));
        for (order, chunk) in chunks.enumerate() {
            out.order.push(order as u32);
            let mut block = Block {
                store: first + order * BLOCK_MAX,
                room: chunk.len(),
                keys: Vec::with_capacity(chunk.len()),
                phases: vec![0],
                ..Block::default()
            };
            for item in chunk {
                let number = block.keys.len();
                let (key, phase) = (out.posted(item.key, order, number), block.phases[number]);
                block.keys.push(key);
                block.classes.push(item.class);
                block.phases.push(turned(phase, (item.steps % PHASES as u32) as u8) as u8);
            }
            out.blocks.push(block);
            out.sum_block(order);
        }
        out.sum_blocks();
        out
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Whether [`Indexed::next`] may be asked. If residual rules are too many it may not, and the caller walks over
    /// [`Indexed::side_by_side`] instead.
    pub fn is_indexed(&self) -> bool {
        self.postings.is_some()
    }
    /// The place behind the last rule.
    pub fn end(&self) -> Place {
        let last = self.order.len() - 1;
        at(last, self.block(last).keys.len())
    }
    /// Rules before `place`.
    #[inline]
    pub fn rank(&self, place: Place) -> u32 {
        let (order, number) = split(place);
        self.block(order).rank + number as u32
    }
    /// Where the rule at `place` is in the store.
    #[inline]
    pub fn store(&self, place: Place) -> usize {
        let (order, number) = split(place);
        self.block(order).store + number
    }
    /// The rule's phase relative to the begin of the sequence.
    #[inline]
    pub fn phase(&self, place: Place) -> u8 {
        let (order, number) = split(place);
        let block = self.block(order);
        turned(block.phase, block.phases[number]) as u8
    }
    /// The place of the rule with `rank` rules before it.
    pub fn place(&self, rank: usize) -> Place {
        assert!(rank <= self.len, "rule {rank} of {}", self.len);
        let order = self.order.partition_point(|&b| self.blocks[b as usize].rank as usize <= rank) - 1;
        // Blocks may be empty at one rank only if there is no other.
        at(order, rank - self.block(order).rank as usize)
    }
    /// Rules from `place` on that stand side by side in the store; the next are at the second value. `None` at the end.
    pub fn side_by_side(&self, place: Place) -> Option<(Range<usize>, Place)> {
        let (mut order, mut number) = split(place);
        while number == self.block(order).keys.len() {
            (order, number) = (order + 1, 0);
            if order == self.order.len() {
                return None;
            }
        }
        let block = self.block(order);
        Some((block.store + number..block.store + block.keys.len(), at(order, number)))
    }

    #[inline]
    fn block(&self, order: usize) -> &Block {
        &self.blocks[self.order[order] as usize]
    }

    /// The first rule from `from` on that may match a packet whose values have these hashes, or the end.
    ///
    /// # Panics
    /// If the sequence is not indexed.
    #[inline]
    pub fn next(&self, from: Place, hashes: &[u32]) -> Place {
        let postings = self.postings.as_ref().expect("asked of an index");
        let mut best = self.next_residual(from);
        for &hash in hashes {
            for place in postings.of(hash) {
                let number = place as usize & ((1 << NUMBER_BITS) - 1);
                let place = at(self.blocks[(place >> NUMBER_BITS) as usize].order, number);
                if place >= from && place < best {
                    best = place;
                }
            }
        }
        best
    }

    fn next_residual(&self, from: Place) -> Place {
        let (order, number) = split(from);
        let rest = self.block(order).residual & from_bit(number);
        if rest != 0 {
            return at(order, rest.trailing_zeros() as usize);
        }
        let next = order + 1;
        let mut word = next / 64;
        let mut bits = self.residual.get(word).map_or(0, |w| w & u64::MAX << (next % 64));
        loop {
            if bits != 0 {
                let order = word * 64 + bits.trailing_zeros() as usize;
                return at(order, self.block(order).residual.trailing_zeros() as usize);
            }
            word += 1;
            match self.residual.get(word) {
                Some(&w) => bits = w,
                None => return self.end(),
            }
        }
    }

    /// What failing all of `range` at once costs if the sequence begins at `phase`.
    #[inline]
    pub fn stretch(&self, range: Range<Place>, phase: u8) -> Stretch {
        let upto = |place: Place| {
            let (order, number) = split(place);
            let block = self.block(order);
            let lines =
                block.lines[usize::from(phase)] + u32::from(block.sums[number][turned(phase, block.phase)]);
            (block.rank + number as u32, lines)
        };
        let (from, to) = (upto(range.start), upto(range.end));
        Stretch { rules: to.0 - from.0, lines: to.1 - from.1 }
    }

    /// Members of `group` in `range`, by their phase relative to the sequence's begin.
    pub fn members(&self, group: u8, range: Range<Place>) -> [u32; PHASES] {
        let Some(sums) = self.groups.get(usize::from(group)) else { return [0; PHASES] };
        let upto = |place: Place| {
            let (order, number) = split(place);
            let (block, mut sum) = (self.block(order), sums[order]);
            if let Some((_, members)) = block.members.iter().find(|m| m.0 == group) {
                for (phase, bits) in members.iter().enumerate() {
                    let before = bits & !from_bit(number);
                    if before != 0 {
                        sum[turned(block.phase, phase as u8)] += before.count_ones();
                    }
                }
            }
            sum
        };
        let (from, mut to) = (upto(range.start), upto(range.end));
        for (n, before) in to.iter_mut().zip(from) {
            *n -= before;
        }
        to
    }

    /// Rules of a class in `range`.
    pub fn classed(&self, class: u8, range: Range<Place>) -> u32 {
        let Some(sums) = self.classes.get(usize::from(class)) else { return 0 };
        let upto = |place: Place| {
            let (order, number) = split(place);
            let found = self.block(order).classed.iter().find(|c| c.0 == class);
            sums[order] + found.map_or(0, |(_, bits)| (bits & !from_bit(number)).count_ones())
        };
        upto(range.end) - upto(range.start)
    }

    /// Puts a rule in front of the one with `rank` others before it; returns where in the store it belongs.
    pub fn insert(&mut self, rank: usize, item: Item, store: &mut impl Store) -> usize {
        let (mut order, mut number) = split(self.place(rank));
        if self.block(order).keys.len() == BLOCK_MAX {
            self.split_block(order, store);
            if number > BLOCK_MAX / 2 {
                (order, number) = (order + 1, number - BLOCK_MAX / 2);
            }
        }
        let id = self.order[order] as usize;
        self.post_block(id, false);
        let block = &mut self.blocks[id];
        let len = block.keys.len();
        if block.room == len {
            let to = store.allocate(BLOCK_MAX);
            store.shift(block.store..block.store + len, to);
            store.release(block.store..block.store + block.room);
            (block.store, block.room) = (to, BLOCK_MAX);
        }
        store.shift(block.store + number..block.store + len, block.store + number + 1);
        block.keys.insert(number, item.key);
        block.classes.insert(number, item.class);
        let steps = (item.steps % PHASES as u32) as u8;
        block.phases.insert(number, block.phases[number]);
        block.phases[number + 1..].iter_mut().for_each(|p| *p = turned(*p, steps) as u8);
        let place = block.store + number;
        self.len += 1;
        self.post_block(id, true);
        self.sum_block(id);
        self.sum_blocks();
        place
    }

    /// Takes out the rule with `rank` others before it; its place in the store is taken by those behind.
    pub fn remove(&mut self, rank: usize, store: &mut impl Store) {
        assert!(rank < self.len, "rule {rank} of {}", self.len);
        let (order, number) = split(self.place(rank));
        let id = self.order[order] as usize;
        self.post_block(id, false);
        let block = &mut self.blocks[id];
        let len = block.keys.len();
        store.shift(block.store + number + 1..block.store + len, block.store + number);
        block.keys.remove(number);
        block.classes.remove(number);
        let steps = (PHASES as u8 + block.phases[number + 1] - block.phases[number]) % PHASES as u8;
        block.phases.remove(number);
        let back = PHASES as u8 - steps;
        block.phases[number..].iter_mut().for_each(|p| *p = turned(*p, back) as u8);
        self.len -= 1;
        self.post_block(id, true);
        self.sum_block(id);
        if self.blocks[id].keys.is_empty() && self.order.len() > 1 {
            let gone = &mut self.blocks[id];
            store.release(gone.store..gone.store + gone.room);
            gone.room = 0;
            self.order.remove(order);
        }
        self.sum_blocks();
    }

    /// Gives the store back.
    pub fn release(&self, store: &mut impl Store) {
        for &id in &self.order {
            let block = &self.blocks[id as usize];
            store.release(block.store..block.store + block.room);
        }
    }

    /// The second half of a full block becomes one of its own.
    fn split_block(&mut self, order: usize, store: &mut impl Store) {
        let id = self.order[order] as usize;
        self.post_block(id, false);
        let half = BLOCK_MAX / 2;
        let to = store.allocate(BLOCK_MAX);
        let block = &mut self.blocks[id];
        store.shift(block.store + half..block.store + BLOCK_MAX, to);
        let keys = block.keys.split_off(half);
        let classes = block.classes.split_off(half);
        let phases = block.phases.split_off(half);
        let begin = phases[0];
        block.phases.push(begin);
        let back = PHASES as u8 - begin;
        let phases = phases.into_iter().map(|p| turned(p, back) as u8).collect();
        let second = Block { store: to, room: BLOCK_MAX, keys, classes, phases, ..Block::default() };
        // A block that became empty left its number.
        let free = self.blocks.iter().position(|b| b.room == 0);
        let second_id = free.unwrap_or(self.blocks.len());
        match free {
            Some(number) => self.blocks[number] = second,
            None => self.blocks.push(second),
        }
        self.order.insert(order + 1, second_id as u32);
        for id in [id, second_id] {
            self.post_block(id, true);
            self.sum_block(id);
        }
        self.sum_blocks();
    }

    /// Enters a key, or makes it residual if its list is full.
    fn posted(&mut self, key: Key, block: usize, number: usize) -> Key {
        let (Some(postings), Some(hash)) = (&mut self.postings, key.hash()) else { return key };
        let place = (block << NUMBER_BITS | number) as u32;
        if postings.insert(hash, place) { key } else { Key::Residual }
    }

    /// Enters all keys of a block, or takes them out.
    fn post_block(&mut self, id: usize, enter: bool) {
        for number in 0..self.blocks[id].keys.len() {
            let key = self.blocks[id].keys[number];
            if enter {
                self.blocks[id].keys[number] = self.posted(key, id, number);
            } else if let (Some(postings), Some(hash)) = (&mut self.postings, key.hash()) {
                postings.remove(hash, (id << NUMBER_BITS | number) as u32);
            }
        }
    }

    /// Sums inside a block.
    fn sum_block(&mut self, id: usize) {
        let block = &mut self.blocks[id];
        block.sums.clear();
        block.residual = 0;
        block.members.clear();
        block.classed.clear();
        for (number, class) in block.classes.iter().enumerate() {
            let Some(class) = *class else { continue };
            match block.classed.iter_mut().find(|c| c.0 == class) {
                Some((_, bits)) => *bits |= 1 << number,
                None => block.classed.push((class, 1 << number)),
            }
        }
        let mut sum = [0u16; PHASES];
        for (number, key) in block.keys.iter().enumerate() {
            block.sums.push(sum);
            let phase = block.phases[number];
            for (begin, lines) in sum.iter_mut().enumerate() {
                *lines += u16::from(self.cost[turned(begin as u8, phase)]);
            }
            match *key {
                Key::Residual => block.residual |= 1 << number,
                Key::Exact(_) => {}
                Key::Member { group, .. } => {
                    let known = block.members.iter().position(|m| m.0 == group);
                    let known = known.unwrap_or_else(|| {
                        block.members.push((group, [0; PHASES]));
                        block.members.len() - 1
                    });
                    block.members[known].1[usize::from(phase)] |= 1 << number;
                }
            }
        }
        block.sums.push(sum);
    }

    /// Sums over blocks.
    fn sum_blocks(&mut self) {
        let (mut rank, mut phase, mut lines) = (0u32, 0u8, [0u32; PHASES]);
        self.residual.clear();
        self.residual.resize(self.order.len().div_ceil(64), 0);
        let mut residuals = 0;
        self.groups.iter_mut().for_each(Vec::clear);
        let mut groups: Vec<[u32; PHASES]> = vec![[0; PHASES]; self.groups.len()];
        self.classes.iter_mut().for_each(Vec::clear);
        let mut classes = vec![0; self.classes.len()];
        for order in 0..self.order.len() {
            let block = &mut self.blocks[self.order[order] as usize];
            (block.order, block.rank, block.phase, block.lines) = (order, rank, phase, lines);
            if block.residual != 0 {
                self.residual[order / 64] |= 1 << (order % 64);
                residuals += block.residual.count_ones() as usize;
            }
            for (sums, sum) in self.groups.iter_mut().zip(&groups) {
                sums.push(*sum);
            }
            for &(group, members) in &block.members {
                while self.groups.len() <= usize::from(group) {
                    self.groups.push(vec![[0; PHASES]; order + 1]);
                    groups.push([0; PHASES]);
                }
                for (begin, bits) in members.iter().enumerate() {
                    groups[usize::from(group)][turned(phase, begin as u8)] += bits.count_ones();
                }
            }
            for (sums, sum) in self.classes.iter_mut().zip(&classes) {
                sums.push(*sum);
            }
            for &(class, bits) in &block.classed {
                while self.classes.len() <= usize::from(class) {
                    self.classes.push(vec![0; order + 1]);
                    classes.push(0);
                }
                classes[usize::from(class)] += bits.count_ones();
            }
            let total = block.sums.last().expect("one for the end");
            for (begin, lines) in lines.iter_mut().enumerate() {
                *lines += u32::from(total[turned(begin as u8, phase)]);
            }
            rank += block.keys.len() as u32;
            phase = turned(phase, *block.phases.last().expect("one for the end")) as u8;
        }
        if !is_worth_it(residuals, self.len) {
            self.postings = None;
        }
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        let block = |b: &Block| {
            size_of::<Block>()
                + b.keys.capacity() * size_of::<Key>()
                + b.phases.capacity()
                + b.sums.capacity() * size_of::<[u16; PHASES]>()
                + b.classes.capacity() * 2
                + b.classed.capacity() * size_of::<(u8, u128)>()
                + b.members.capacity() * size_of::<(u8, [u128; PHASES])>()
        };
        self.blocks.iter().map(block).sum::<usize>()
            + self.order.capacity() * 4
            + self.residual.capacity() * 8
            + self.groups.iter().map(|g| g.capacity() * 4 * PHASES).sum::<usize>()
            + self.classes.iter().map(|c| c.capacity() * 4).sum::<usize>()
            + self.postings.as_ref().map_or(0, Postings::memory_bytes)
    }
}

#[cfg(test)]
mod tests;
