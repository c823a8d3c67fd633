//! Keyed BLAKE3 of short texts: one by itself, or many together.
//!
//! A text of up to 64 bytes is a single compression, whose steps wait for one another. So a batch computes as many texts
//! at a time as a vector register has lanes ([`compression`]), which takes half the time of one after the other. The `blake3` crate does the
//! same within long inputs alone, and computes whatever a batch does not: longer texts, and all texts on processors without such registers.

mod compression;

use self::compression::{Inputs, LANES};

/// Bytes of a whole hash.
const WHOLE: usize = blake3::OUT_LEN;

/// The first bytes of the keyed hash of some parts, one after the other.
pub(crate) fn keyed_hash<const N: usize>(key: &[u8; 32], parts: &[&[u8]]) -> [u8; N] {
    let mut short = [0; 128];
    match join(parts, &mut short) {
        Some(length) => beginning(&blake3::keyed_hash(key, &short[..length])),
        None => beginning(&blake3::keyed_hash(key, &parts.concat())),
    }
}

fn beginning<const N: usize>(hash: &blake3::Hash) -> [u8; N] {
    const { assert!(N <= WHOLE) };
    std::array::from_fn(|place| hash.as_bytes()[place])
}

/// Puts parts one after the other; answers their length, nothing if they are too long.
fn join(parts: &[&[u8]], joined: &mut [u8]) -> Option<usize> {
    let mut length = 0;
    for part in parts {
        let place = joined.get_mut(length..length + part.len())?;
        place.copy_from_slice(part);
        length += part.len();
    }
    Some(length)
}

/// The first bytes of hashes under one key that are computed several at a time.
pub(crate) struct HashBatch<const N: usize> {
    key: [u8; 32],
    inputs: Inputs,
    /// How many of the inputs wait.
    waiting: usize,
    hashes: Vec<[u8; N]>,
}

impl<const N: usize> HashBatch<N> {
    /// A batch with room for some hashes.
    pub(crate) fn with_capacity(key: &[u8; 32], hashes: usize) -> Self {
        Self {
            key: *key,
            inputs: Inputs::default(),
            waiting: 0,
            hashes: Vec::with_capacity(hashes),
        }
    }

    /// Asks for the hash of some parts, one after the other; answers its place among the [hashes](Self::finish).
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> usize {
        let mut block = [0; 64];
        let Some(length) = join(parts, &mut block) else {
            self.compute();
            self.hashes.push(keyed_hash(&self.key, parts));
            return self.hashes.len() - 1;
        };
        self.inputs.set(self.waiting, &block, length as u32);
        let place = self.hashes.len() + self.waiting;
        self.waiting += 1;
        if self.waiting == LANES {
            self.compute();
        }
        place
    }

    /// Every hash, in the order in which they were asked for.
    pub(crate) fn finish(mut self) -> Vec<[u8; N]> {
        self.compute();
        self.hashes
    }

    fn compute(&mut self) {
        let lanes = 0..std::mem::take(&mut self.waiting);
        match compression::compress(&self.key, &self.inputs) {
            Some(outputs) => self.hashes.extend(lanes.map(|lane| outputs.of(lane))),
            None => self.hashes.extend(lanes.map(|lane| {
                let (block, length) = self.inputs.of(lane);
                beginning(&blake3::keyed_hash(&self.key, &block[..length]))
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_batch_has_the_hashes_that_blake3_has(
            key: [u8; 32],
            texts in vec((vec(any::<u8>(), 0..150), 0..150_usize), 0..50),
        ) {
            let mut batch = HashBatch::<24>::with_capacity(&key, texts.len());
            for (place, (text, cut)) in texts.iter().enumerate() {
                let (front, back) = text.split_at((*cut).min(text.len()));
                prop_assert_eq!(batch.push(&[front, back]), place);
                let alone: [u8; 32] = keyed_hash(&key, &[front, back]);
                prop_assert_eq!(alone, *blake3::keyed_hash(&key, text).as_bytes());
            }
            let expected = texts.iter().map(|(text, _)| beginning::<24>(&blake3::keyed_hash(&key, text)));
            prop_assert_eq!(batch.finish(), expected.collect::<Vec<_>>());
        }
    }
}
