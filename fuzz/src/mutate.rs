//! Texts that are almost right: a seed with some of its parts moved, doubled, cut or replaced.
//!
//! Not guided by coverage, and deterministic: the same seeds, number and ChaCha key give the same texts everywhere. What
//! libFuzzer finds beyond goes into the corpus.

use crate::Target;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Longest text that is made.
const LONGEST: usize = 64 * 1024;

/// Numbers at which things break.
const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "-1",
    "7",
    "63",
    "64",
    "255",
    "256",
    "65535",
    "65536",
    "4294967296",
    "18446744073709551616",
    "1e400",
    "007",
];

/// Makes texts for one target.
pub struct Mutator<'a> {
    target: &'a Target,
    seeds: &'a [Vec<u8>],
    random: ChaCha8Rng,
}

impl<'a> Mutator<'a> {
    /// From its seeds, at least one.
    pub fn new(target: &'a Target, seeds: &'a [Vec<u8>], key: u64) -> Self {
        assert!(!seeds.is_empty(), "{}: no seeds", target.name);
        Mutator { target, seeds, random: ChaCha8Rng::seed_from_u64(key) }
    }

    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).expect("a length");
        usize::try_from(self.random.next_u64() % bound).expect("below a length")
    }

    /// The next text.
    pub fn text(&mut self) -> Vec<u8> {
        let seed = self.below(self.seeds.len());
        let mut text = self.seeds[seed].clone();
        for _ in 0..1 + self.below(6) {
            self.change(&mut text);
            text.truncate(LONGEST);
        }
        text
    }

    /// A part of the text, more often a line or a word than anything.
    fn part(&mut self, text: &[u8]) -> std::ops::Range<usize> {
        let at = self.below(text.len() + 1);
        let ends: &[u8] = match self.below(4) {
            0 => b"\n",
            1 => b" \n\t,:;\"'{}[]()=/.",
            2 => b"{}[]\n",
            _ => {
                let long = self.below(16);
                return at..(at + long).min(text.len());
            }
        };
        let start = text[..at].iter().rposition(|byte| ends.contains(byte)).map_or(0, |before| before + 1);
        let end =
            text[at..].iter().position(|byte| ends.contains(byte)).map_or(text.len(), |after| at + after);
        start..end
    }

    fn change(&mut self, text: &mut Vec<u8>) {
        let part = self.part(text);
        match self.below(9) {
            0 => drop(text.splice(part, [])),
            1 => {
                let copy = text[part.clone()].to_vec();
                drop(text.splice(part.start..part.start, copy));
            }
            2 => {
                let copy = text[part].to_vec();
                let at = self.below(text.len() + 1);
                drop(text.splice(at..at, copy));
            }
            3 => {
                let word = self.target.dictionary[self.below(self.target.dictionary.len())];
                drop(text.splice(part, word.bytes()));
            }
            4 => {
                let word = self.target.dictionary[self.below(self.target.dictionary.len())];
                drop(text.splice(part.start..part.start, word.bytes()));
            }
            5 => {
                let other = &self.seeds[self.below(self.seeds.len())];
                let from = self.part(other);
                drop(text.splice(part, other[from].iter().copied()));
            }
            6 => {
                // The next number in the text becomes another.
                let Some(start) = text[part.start..].iter().position(u8::is_ascii_digit) else { return };
                let start = part.start + start;
                let long = text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let number = NUMBERS[self.below(NUMBERS.len())];
                drop(text.splice(start..start + long, number.bytes()));
            }
            7 => {
                if let Some(byte) = text.get_mut(part.start) {
                    *byte ^= 1 << (self.random.next_u64() % 8);
                }
            }
            _ => {
                let times = 1 + self.below(200);
                let copy = text[part.clone()].repeat(times.min(1 + LONGEST / (part.len() + 1)));
                drop(text.splice(part.start..part.start, copy));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Mutator;
    use crate::TARGETS;

    #[test]
    fn the_same_key_makes_the_same_texts() {
        let seeds = vec![b"{\"kind\": \"Service\", \"port\": 80}\n".to_vec(), b"a b c\n".to_vec()];
        let texts = |key| {
            let mut mutator = Mutator::new(&TARGETS[0], &seeds, key);
            (0..200).map(|_| mutator.text()).collect::<Vec<_>>()
        };
        assert_eq!(texts(7), texts(7));
        assert_ne!(texts(7), texts(8));
    }
}
