//! `mh`: Maglev hashing of the client's address, with its port under `mh-port` (`ip_vs_mh.c`).
//!
//! A table of 4,093 slots (the prime below 2^12, the kernel's default) is filled by each destination in turn
//! along its own permutation, as many steps in a row as its weight by the common divisor; weights above 63 times it
//! are scaled down. What counts is the last weight that was not 0: a destination that is drained keeps its slots, and
//! their clients get nobody unless `mh-fallback` is set. Hashes are
//! SipHash-1-3 with the kernel's two fixed keys. Each change of the list rebuilds the whole table; that cost
//! is the sync's, not the packet's.

use super::super::service_table::fold;
use super::{Dest, DestChange, ScheduleCx, Scheduler, gcd};
use std::net::IpAddr;

const TABLE: usize = 4093;
/// Most bits of a weight by the common divisor (`IP_VS_MH_TAB_BITS`: half of the table's twelve).
const WEIGHT_BITS: u32 = 6;
const KEY_1: u64 = 2_654_435_761;
const KEY_2: u64 = 2_654_446_892;

/// Maglev hashing.
#[derive(Debug, Default)]
pub struct Maglev {
    /// Positions by slot; empty until built.
    table: Vec<u32>,
}

/// `hsiphash` of one word on a 64-bit machine: SipHash-1-3, low half, with the same word twice as key.
fn hash_word(word: u32, key: u64) -> u32 {
    let mut v = [
        0x736f_6d65_7073_6575 ^ key,
        0x646f_7261_6e64_6f6d ^ key,
        0x6c79_6765_6e65_7261 ^ key,
        0x7465_6462_7974_6573 ^ key,
    ];
    let last = (4u64 << 56) | u64::from(word);
    v[3] ^= last;
    round(&mut v);
    v[0] ^= last;
    v[2] ^= 0xff;
    (0..3).for_each(|_| round(&mut v));
    (v[0] ^ v[1] ^ v[2] ^ v[3]) as u32
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

fn hash(addr: IpAddr, port: u16, key: u64, offset: u32) -> usize {
    hash_word(offset.wrapping_add(u32::from(port)).wrapping_add(fold(addr)), key) as usize
}

fn build(dests: &[Dest]) -> Vec<u32> {
    let gcd = gcd(dests.iter().map(|d| d.last_weight));
    if gcd == 0 {
        return Vec::new();
    }
    let heaviest = dests.iter().map(|d| d.last_weight).max().unwrap_or(0) / gcd;
    let shift = (u32::BITS - heaviest.leading_zeros()).saturating_sub(WEIGHT_BITS);
    let mut places: Vec<(usize, usize, u32)> = dests
        .iter()
        .map(|d| {
            let start = hash(d.addr.ip(), d.addr.port(), KEY_1, 0) % TABLE;
            let skip = hash(d.addr.ip(), d.addr.port(), KEY_2, 0) % (TABLE - 1) + 1;
            let turns = if d.last_weight == 0 { 0 } else { ((d.last_weight / gcd) >> shift).max(1) };
            (start, skip, turns)
        })
        .collect();
    let mut table = vec![u32::MAX; TABLE];
    let mut filled = 0;
    loop {
        for (position, (at, skip, turns)) in places.iter_mut().enumerate() {
            for _ in 0..*turns {
                while table[*at] != u32::MAX {
                    *at = (*at + *skip) % TABLE;
                }
                table[*at] = position as u32;
                filled += 1;
                if filled == TABLE {
                    return table;
                }
            }
        }
    }
}

impl Scheduler for Maglev {
    fn schedule(&mut self, cx: &mut ScheduleCx<'_>, dests: &[Dest]) -> Option<usize> {
        if self.table.is_empty() {
            self.table = build(dests);
            if self.table.is_empty() {
                return None;
            }
        }
        let port = if cx.flags.port { cx.packet.sport } else { 0 };
        let first = hash(cx.packet.src, port, KEY_1, 0) % TABLE;
        cx.looked_at(1);
        let at = self.table[first] as usize;
        if dests[at].is_eligible() {
            return Some(at);
        }
        if !cx.flags.fallback {
            return None;
        }
        for offset in 0..TABLE {
            let rotated = ((offset + first) % TABLE) as u32;
            cx.looked_at(1);
            let at = self.table[hash(cx.packet.src, port, KEY_1, rotated) % TABLE] as usize;
            if dests[at].is_eligible() {
                return Some(at);
            }
        }
        None
    }

    fn changed(&mut self, _dests: &[Dest], _change: DestChange) {
        self.table.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dest(n: u8, weight: u32) -> Dest {
        Dest::new(std::net::SocketAddr::from(([10, 0, 0, n], 8080)), weight, 0)
    }

    #[test]
    fn every_slot_is_filled_and_shares_are_even() {
        let table = build(&[dest(1, 1), dest(2, 1), dest(3, 2), dest(4, 0)]);
        let share = |n| table.iter().filter(|&&p| p == n).count();
        assert_eq!((share(0), share(1), share(2), share(3)), (1024, 1023, 2046, 0));
    }

    #[test]
    fn a_weight_of_seven_bits_is_halved_and_the_least_keeps_one_turn() {
        let table = build(&[dest(1, 100), dest(2, 1)]);
        let share = table.iter().filter(|&&p| p == 1).count();
        // 50 turns against 1.
        assert_eq!(share, 4093 / 51);
        let six_bits = build(&[dest(1, 63), dest(2, 1)]);
        assert_eq!(six_bits.iter().filter(|&&p| p == 1).count(), 4093 / 64);
    }

    #[test]
    fn a_drained_destination_keeps_its_slots() {
        let full = [dest(1, 1), dest(2, 1), dest(3, 1)];
        let mut drained = full;
        drained[1].weight = 0;
        assert_eq!(build(&drained), build(&full));
    }
}
