//! BLAKE3's compression of one block, a lane of vector registers for each input.
//!
//! The block is the only one of its input, so it is the first and the last of its chunk and the root of the tree
//! (<https://github.com/BLAKE3-team/BLAKE3-specs/blob/master/blake3.pdf>, sections 2.2 to 2.6).

use super::WHOLE;

/// Inputs that are computed together.
pub(super) const LANES: usize = 16;

/// A word of each input.
type Row = [u32; LANES];

/// One block each, the words of each lane below one another.
#[derive(Default)]
pub(super) struct Inputs {
    blocks: [Row; 16],
    lengths: Row,
}

impl Inputs {
    /// Sets the input of a lane: a block that is filled up with zeros, and how much of it counts.
    pub(super) fn set(&mut self, lane: usize, block: &[u8; 64], length: u32) {
        let (words, _) = block.as_chunks();
        for (row, word) in self.blocks.iter_mut().zip(words) {
            row[lane] = u32::from_le_bytes(*word);
        }
        self.lengths[lane] = length;
    }

    /// The input of a lane.
    pub(super) fn of(&self, lane: usize) -> ([u8; 64], usize) {
        (bytes(&self.blocks, lane), self.lengths[lane] as usize)
    }
}

/// The hash of each input.
pub(super) struct Outputs([Row; WHOLE / 4]);

impl Outputs {
    /// The first bytes of that of a lane.
    pub(super) fn of<const N: usize>(&self, lane: usize) -> [u8; N] {
        bytes(&self.0, lane)
    }
}

fn bytes<const N: usize>(rows: &[Row], lane: usize) -> [u8; N] {
    let mut bytes = [0; N];
    let (words, _) = bytes.as_chunks_mut();
    for (word, row) in words.iter_mut().zip(rows) {
        *word = row[lane].to_le_bytes();
    }
    bytes
}

/// The hashes of all inputs under a key; nothing on a processor that has none of the vector registers for it.
pub(super) fn compress(key: &[u8; 32], inputs: &Inputs) -> Option<Outputs> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function asks of it.
            return Some(unsafe { x86::compress_avx512(key, inputs) });
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function asks of it.
            return Some(unsafe { x86::compress_avx2(key, inputs) });
        }
    }
    let _ = (key, inputs);
    None
}

/// The constants that a state begins with.
#[cfg(target_arch = "x86_64")]
const BEGINNING: [u32; 4] = [0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A];

/// Of a block: begins its chunk, ends it, is the root, is keyed.
#[cfg(target_arch = "x86_64")]
const FLAGS: u32 = 1 | 2 | 8 | 16;

/// The words of the block in the order in which each round takes them.
#[cfg(target_arch = "x86_64")]
const ROUNDS: [[usize; 16]; 7] = {
    const PERMUTATION: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
    let mut rounds = [[0; 16]; 7];
    let mut place = 0;
    while place < 16 {
        rounds[0][place] = place;
        place += 1;
    }
    let mut round = 1;
    while round < 7 {
        let mut place = 0;
        while place < 16 {
            rounds[round][place] = rounds[round - 1][PERMUTATION[place]];
            place += 1;
        }
        round += 1;
    }
    rounds
};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_add_epi32, _mm256_or_si256, _mm256_set1_epi32, _mm256_sllv_epi32,
        _mm256_srlv_epi32, _mm256_xor_si256, _mm512_add_epi32, _mm512_ror_epi32, _mm512_set1_epi32,
        _mm512_xor_si512,
    };

    use zerocopy::transmute;

    use super::{BEGINNING, FLAGS, Inputs, LANES, Outputs, ROUNDS, Row, WHOLE};

    /// Mixes column or diagonal `$a $b $c $d` of a state with two words of the block.
    macro_rules! mix {
        ($state:ident, $a:literal $b:literal $c:literal $d:literal, $x:expr, $y:expr, $add:ident, $xor:ident,
         $right:ident) => {
            $state[$a] = $add($add($state[$a], $state[$b]), $x);
            $state[$d] = $right::<16>($xor($state[$d], $state[$a]));
            $state[$c] = $add($state[$c], $state[$d]);
            $state[$b] = $right::<12>($xor($state[$b], $state[$c]));
            $state[$a] = $add($add($state[$a], $state[$b]), $y);
            $state[$d] = $right::<8>($xor($state[$d], $state[$a]));
            $state[$c] = $add($state[$c], $state[$d]);
            $state[$b] = $right::<7>($xor($state[$b], $state[$c]));
        };
    }

    /// Defines the compression for vectors of `$width` words.
    ///
    /// Everything is written out: a closure that a function without the feature calls, such as `map` of arrays, is a call for each vector.
    macro_rules! define_compress {
        ($name:ident, $feature:literal, $vector:ty, $width:literal, $all:ident, $add:ident, $xor:ident, $right:ident) => {
            #[target_feature(enable = $feature)]
            pub(super) fn $name(key: &[u8; 32], Inputs { blocks, lengths }: &Inputs) -> Outputs {
                const PARTS: usize = LANES / $width;
                let mut rows = [[[0_u32; $width]; PARTS]; WHOLE / 4];
                for part in 0..PARTS {
                    let vector = |row: &Row| -> $vector {
                        let parts: [$vector; PARTS] = transmute!(*row);
                        parts[part]
                    };
                    let all = |word: u32| $all(word.cast_signed());
                    let mut block = [all(0); 16];
                    for (vector_of_block, row) in block.iter_mut().zip(blocks) {
                        *vector_of_block = vector(row);
                    }
                    let mut state = [all(0); 16];
                    let (key_words, _) = key.as_chunks();
                    for (vector_of_state, word) in state.iter_mut().zip(key_words) {
                        *vector_of_state = all(u32::from_le_bytes(*word));
                    }
                    for (vector_of_state, word) in state[8..].iter_mut().zip(BEGINNING) {
                        *vector_of_state = all(word);
                    }
                    state[14] = vector(lengths);
                    state[15] = all(FLAGS);
                    macro_rules! round {
                        ($round:literal) => {
                            let words = const { ROUNDS[$round] };
                            mix!(state, 0 4 8 12, block[words[0]], block[words[1]], $add, $xor, $right);
                            mix!(state, 1 5 9 13, block[words[2]], block[words[3]], $add, $xor, $right);
                            mix!(state, 2 6 10 14, block[words[4]], block[words[5]], $add, $xor, $right);
                            mix!(state, 3 7 11 15, block[words[6]], block[words[7]], $add, $xor, $right);
                            mix!(state, 0 5 10 15, block[words[8]], block[words[9]], $add, $xor, $right);
                            mix!(state, 1 6 11 12, block[words[10]], block[words[11]], $add, $xor, $right);
                            mix!(state, 2 7 8 13, block[words[12]], block[words[13]], $add, $xor, $right);
                            mix!(state, 3 4 9 14, block[words[14]], block[words[15]], $add, $xor, $right);
                        };
                    }
                    round!(0);
                    round!(1);
                    round!(2);
                    round!(3);
                    round!(4);
                    round!(5);
                    round!(6);
                    for (place, row) in rows.iter_mut().enumerate() {
                        row[part] = transmute!($xor(state[place], state[place + 8]));
                    }
                }
                Outputs(transmute!(rows))
            }
        };
    }

    define_compress!(
        compress_avx512,
        "avx512f",
        __m512i,
        16,
        _mm512_set1_epi32,
        _mm512_add_epi32,
        _mm512_xor_si512,
        _mm512_ror_epi32
    );
    define_compress!(
        compress_avx2,
        "avx2",
        __m256i,
        8,
        _mm256_set1_epi32,
        _mm256_add_epi32,
        _mm256_xor_si256,
        right_avx2
    );

    /// Turns each word right.
    #[target_feature(enable = "avx2")]
    fn right_avx2<const BITS: i32>(words: __m256i) -> __m256i {
        let (right, left) = (_mm256_set1_epi32(BITS), _mm256_set1_epi32(32 - BITS));
        _mm256_or_si256(
            _mm256_srlv_epi32(words, right),
            _mm256_sllv_epi32(words, left),
        )
    }

    #[cfg(test)]
    mod tests {
        use super::super::{Inputs, LANES, Outputs};
        use super::*;

        #[test]
        fn every_width_of_vectors_gives_what_blake3_gives() {
            let (key, mut inputs) = ([7; 32], Inputs::default());
            for lane in 0..LANES {
                let mut block = [0; 64];
                block[..lane * 4].fill(lane as u8 + 1);
                inputs.set(lane, &block, lane as u32 * 4);
            }
            let check = |outputs: Outputs| {
                for lane in 0..LANES {
                    let (block, length) = inputs.of(lane);
                    let hash = blake3::keyed_hash(&key, &block[..length]);
                    assert_eq!(&outputs.of(lane), hash.as_bytes());
                }
            };
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor has what the function asks of it.
                check(unsafe { compress_avx512(&key, &inputs) });
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has what the function asks of it.
                check(unsafe { compress_avx2(&key, &inputs) });
            }
        }
    }
}
