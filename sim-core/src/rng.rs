//! Random streams: one ChaCha8 stream per (seed, component path, purpose).
//!
//! Two components, or two purposes of one component, never share a stream, so that adding a draw in one place
//! does not shift any other, and every proxy mode sees the same arrivals (common random numbers). The key of a
//! stream is the 64-bit seed and two 64-bit FNV-1a-then-SplitMix hashes of path and purpose; the hash is part
//! of the result format and must not change.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A stream of random numbers for one purpose of one component.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `purpose` in the component at `path` (for example `"node/3"`, `"arrivals"`).
    pub fn new(seed: u64, path: &str, purpose: &str) -> Self {
        let mut key = [0u8; 32];
        let words = [seed, hash_text(path, 0x77), hash_text(purpose, 0x1f), splitmix(seed ^ 0x5eed)];
        for (chunk, word) in key.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Stream(ChaCha8Rng::from_seed(key))
    }

    /// 64 uniform bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
    /// 32 uniform bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }
    /// A uniform number in `[0, 1)` with 53 random bits.
    #[inline]
    pub fn unit_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
    /// A uniform whole number below `bound`, without bias (Lemire's method).
    ///
    /// # Panics
    /// If `bound` is zero.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a choice among nothing");
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(bound);
            let low = wide as u64;
            if low >= bound || low >= bound.wrapping_neg() % bound {
                return (wide >> 64) as u64;
            }
        }
    }
}

/// FNV-1a over the bytes, then SplitMix64's finaliser.
fn hash_text(text: &str, salt: u64) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64 ^ salt;
    for byte in text.bytes() {
        h = (h ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    splitmix(h)
}

fn splitmix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_pinned_to_these_values() {
        let mut s = Stream::new(42, "node/3", "arrivals");
        let first: Vec<u64> = (0..3).map(|_| s.next_u64()).collect();
        let mut again = Stream::new(42, "node/3", "arrivals");
        assert_eq!(first, (0..3).map(|_| again.next_u64()).collect::<Vec<_>>());
        assert_ne!(first[0], Stream::new(42, "node/3", "sizes").next_u64());
        assert_ne!(first[0], Stream::new(42, "node/4", "arrivals").next_u64());
        assert_ne!(first[0], Stream::new(43, "node/3", "arrivals").next_u64());
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut s = Stream::new(1, "t", "below");
        let mut seen = [0u32; 7];
        for _ in 0..7_000 {
            seen[s.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (800..1_200).contains(&n)), "{seen:?}");
    }
}
