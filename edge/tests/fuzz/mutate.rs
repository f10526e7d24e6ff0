//! Mutations that keep most of an input's structure.

use std::ops::Range;

use super::{Grammar, Input};

/// Longest input that is made: long enough for every limit of nesting, short enough for many rounds.
const LONGEST: usize = 4096;

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when there is none.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// One of the seeds, changed in one to five ways, more often in few.
pub fn mutate(seeds: &[Input], grammar: &Grammar, random: &mut Random) -> Input {
    let mut input = random.pick(seeds).cloned().expect("seeds");
    // Bytes of one type read as another are nasty too.
    if random.below(8) == 0 {
        input.message.clone_from(&random.pick(seeds).expect("seeds").message);
    }
    for _ in 0..[1, 1, 1, 2, 2, 3, 5][random.below(7)] {
        let other = random.pick(seeds).expect("seeds");
        let changed = change(&input.bytes, &other.bytes, grammar, random);
        if changed.len() <= LONGEST {
            input.bytes = changed;
        }
    }
    input
}

fn change(bytes: &[u8], other: &[u8], grammar: &Grammar, random: &mut Random) -> Vec<u8> {
    let pieces = (grammar.pieces)(bytes);
    let piece = random.pick(&pieces).cloned().unwrap_or(0..bytes.len());
    let edit = |with: &[u8]| (grammar.edit)(bytes, piece.clone(), with);
    match random.below(9) {
        0 => {
            let mut bytes = bytes.to_vec();
            let bit = random.below(bytes.len() * 8);
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            bytes
        }
        1 => {
            let mut bytes = bytes.to_vec();
            let at = random.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *random.pick(b"\x00\x01\x7f\x80\xff\"\\{}[]:,%/.&=+-0e*").expect("bytes");
            }
            bytes
        }
        2 => bytes[..random.below(bytes.len() + 1)].to_vec(),
        3 => edit(b""),
        4 => {
            let times = [2, 2, 3, 10, 100, 300][random.below(6)];
            let copies = vec![&bytes[piece.clone()]; times];
            edit(&copies.join(grammar.joint))
        }
        5 => edit(random.pick(grammar.words).expect("words")),
        6 => {
            let word = random.pick(grammar.words).expect("words");
            edit(&[&bytes[piece.clone()], grammar.joint, word].concat())
        }
        7 => {
            // What begins alike fits more often: a string for a string, a field for the same field.
            let theirs = (grammar.pieces)(other);
            let alike: Vec<_> =
                theirs.iter().filter(|range| other.get(range.start) == bytes.get(piece.start)).collect();
            let theirs = random.pick(&alike).map_or(0..other.len(), |range| (*range).clone());
            edit(&other[theirs])
        }
        _ => {
            let second = random.pick(&pieces).cloned().unwrap_or(0..0);
            edit(&[&bytes[second], grammar.joint, &bytes[piece.clone()]].concat())
        }
    }
}

/// Puts other bytes in the place of a piece of a format without lengths.
pub fn replace(bytes: &[u8], piece: Range<usize>, with: &[u8]) -> Vec<u8> {
    [&bytes[..piece.start], with, &bytes[piece.end..]].concat()
}
