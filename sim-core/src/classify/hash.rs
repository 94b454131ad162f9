//! Bob Jenkins' lookup3 as Linux shapes it (`include/linux/jhash.h`), and the bucket reductions.
//!
//! Tables count true bucket chains, so the hash must be the kernel's, bit for bit. SipHash comes from the
//! `siphasher` crate where a mechanism needs it.

const INITVAL: u32 = 0xdead_beef;

#[inline]
fn mix(a: &mut u32, b: &mut u32, c: &mut u32) {
    *a = a.wrapping_sub(*c) ^ c.rotate_left(4);
    *c = c.wrapping_add(*b);
    *b = b.wrapping_sub(*a) ^ a.rotate_left(6);
    *a = a.wrapping_add(*c);
    *c = c.wrapping_sub(*b) ^ b.rotate_left(8);
    *b = b.wrapping_add(*a);
    *a = a.wrapping_sub(*c) ^ c.rotate_left(16);
    *c = c.wrapping_add(*b);
    *b = b.wrapping_sub(*a) ^ a.rotate_left(19);
    *a = a.wrapping_add(*c);
    *c = c.wrapping_sub(*b) ^ b.rotate_left(4);
    *b = b.wrapping_add(*a);
}

#[inline]
fn finish(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

/// `jhash2`: a hash of whole 32-bit words.
#[inline]
pub fn jhash2(words: &[u32], initval: u32) -> u32 {
    let start = INITVAL.wrapping_add((words.len() as u32) << 2).wrapping_add(initval);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut rest = words;
    while rest.len() > 3 {
        a = a.wrapping_add(rest[0]);
        b = b.wrapping_add(rest[1]);
        c = c.wrapping_add(rest[2]);
        mix(&mut a, &mut b, &mut c);
        rest = &rest[3..];
    }
    if rest.is_empty() {
        return c;
    }
    a = a.wrapping_add(rest[0]);
    b = b.wrapping_add(rest.get(1).copied().unwrap_or(0));
    c = c.wrapping_add(rest.get(2).copied().unwrap_or(0));
    finish(a, b, c)
}

/// `jhash`: a hash of bytes, read as little-endian words.
pub fn jhash(bytes: &[u8], initval: u32) -> u32 {
    let start = INITVAL.wrapping_add(bytes.len() as u32).wrapping_add(initval);
    let (mut a, mut b, mut c) = (start, start, start);
    let word = |chunk: &[u8]| {
        let mut le = [0u8; 4];
        le[..chunk.len()].copy_from_slice(chunk);
        u32::from_le_bytes(le)
    };
    let mut rest = bytes;
    while rest.len() > 12 {
        a = a.wrapping_add(word(&rest[0..4]));
        b = b.wrapping_add(word(&rest[4..8]));
        c = c.wrapping_add(word(&rest[8..12]));
        mix(&mut a, &mut b, &mut c);
        rest = &rest[12..];
    }
    if rest.is_empty() {
        return c;
    }
    let part = |from: usize| word(&rest[from.min(rest.len())..(from + 4).min(rest.len())]);
    finish(a.wrapping_add(part(0)), b.wrapping_add(part(4)), c.wrapping_add(part(8)))
}

/// `jhash_3words`.
#[inline]
pub fn jhash_3words(a: u32, b: u32, c: u32, initval: u32) -> u32 {
    let start = INITVAL.wrapping_add(3 << 2).wrapping_add(initval);
    finish(a.wrapping_add(start), b.wrapping_add(start), c.wrapping_add(start))
}

/// `jhash_1word`.
#[inline]
pub fn jhash_1word(a: u32, initval: u32) -> u32 {
    let start = INITVAL.wrapping_add(1 << 2).wrapping_add(initval);
    finish(a.wrapping_add(start), start, start)
}

/// `hash_32`: a multiplicative hash of `bits` bits (`include/linux/hash.h`).
pub fn hash_32(value: u32, bits: u32) -> u32 {
    value.wrapping_mul(0x61C8_8647) >> (32 - bits)
}

/// `reciprocal_scale`: a uniform 32-bit number scaled to below `n`.
#[inline]
pub fn reciprocal_scale(value: u32, n: u32) -> u32 {
    ((u64::from(value) * u64::from(n)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// lookup3's own `driver5` vectors: hashlittle() with length folded in as the kernel does.
    #[test]
    fn jhash_gives_lookup3s_published_values() {
        let text = b"Four score and seven years ago";
        assert_eq!(jhash(b"", 0), 0xdead_beef);
        assert_eq!(jhash(b"", 0xdead_beef), 0xbd5b_7dde);
        assert_eq!(jhash(text, 0), 0x1777_0551);
        assert_eq!(jhash(text, 1), 0xcd62_8161);
    }

    #[test]
    fn words_and_bytes_agree_on_whole_words() {
        for n in 1..9u32 {
            let words: Vec<u32> = (0..n).map(|i| i.wrapping_mul(0x9e37_79b9) ^ 0x1234).collect();
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            assert_eq!(jhash2(&words, 77), jhash(&bytes, 77));
        }
        assert_eq!(jhash_3words(1, 2, 3, 9), jhash2(&[1, 2, 3], 9));
        assert_eq!(jhash_1word(5, 9), jhash2(&[5], 9));
    }
}
