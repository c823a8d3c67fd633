//! The keys of a partition's records, apart by their hash, on disk where they are many.
//!
//! As many buckets as keep each within so many records; each is then looked at alone. The records of a bucket stay in the order of the
//! log.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use uncached_file::{UncachedReader, UncachedWriter};

use super::key_sample::Newest;
use crate::error::LogError;

/// The extension of a bucket's file; a start removes what a crash left.
pub(super) const EXTENSION: &str = "bucket";
/// Bytes of a bucket in memory before they go to its file.
const IN_MEMORY: usize = 64 << 10;
/// Bytes of a record: two halves of its key's hash, and its offset with two marks in the highest bits.
const ENTRY: usize = 24;
const TOMBSTONE: u64 = 1 << 63;
const EXPIRED: u64 = 1 << 62;

/// What is kept of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keyed {
    /// 128 bits of the key's hash.
    pub hash: [u64; 2],
    /// The record, should no newer one of its key follow.
    pub newest: Newest,
}

impl Keyed {
    fn encode(self) -> [u8; ENTRY] {
        let Newest {
            offset,
            is_tombstone,
            is_expired,
        } = self.newest;
        let marks = u64::from(is_tombstone) * TOMBSTONE + u64::from(is_expired) * EXPIRED;
        let numbers = [self.hash[0], self.hash[1], offset | marks];
        let mut entry = [0; ENTRY];
        for (place, number) in entry.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
        entry
    }

    fn decode(entry: &[u8; ENTRY]) -> Self {
        let number = |at: usize| entry.as_chunks::<8>().0[at];
        let [first, second, marked] = [0, 1, 2].map(|at| u64::from_le_bytes(number(at)));
        Self {
            hash: [first, second],
            newest: Newest {
                offset: marked & !(TOMBSTONE | EXPIRED),
                is_tombstone: marked & TOMBSTONE != 0,
                is_expired: marked & EXPIRED != 0,
            },
        }
    }
}

/// The half of a key's hash that says its bucket.
pub(super) fn first_half(key: &[u8]) -> u64 {
    hash(1, key)
}

/// The other half.
pub(super) fn second_half(key: &[u8]) -> u64 {
    hash(2, key)
}

fn hash(salt: u8, key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u8(salt);
    hasher.write(key);
    hasher.finish()
}

/// Buckets being filled. Their files go with them.
pub(super) struct Buckets(Vec<Bucket>);

impl Buckets {
    /// So many empty ones, at least one, with files in a folder where they need them.
    pub(super) fn new(folder: &Path, count: u64) -> Self {
        let bucket = |number| Bucket {
            path: folder.join(format!("{number:06}.{EXTENSION}")),
            file: None,
            in_memory: Vec::new(),
        };
        Self((0..count.max(1)).map(bucket).collect())
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// The bucket of the keys with a first half.
    pub(super) fn number_of(&self, first_half: u64) -> u64 {
        first_half % self.len()
    }

    pub(super) fn push(&mut self, record: Keyed) -> Result<(), LogError> {
        let number = self.number_of(record.hash[0]);
        let bucket = &mut self.0[number as usize];
        let context = || format!("write {}", bucket.path.display());
        bucket.in_memory.extend_from_slice(&record.encode());
        if bucket.in_memory.len() < IN_MEMORY {
            return Ok(());
        }
        let file = match &mut bucket.file {
            Some(file) => file,
            none => {
                let file = UncachedWriter::create(&bucket.path, IN_MEMORY);
                none.insert(file.map_err(LogError::io(context()))?)
            }
        };
        file.write_all(&bucket.in_memory)
            .map_err(LogError::io(context()))?;
        bucket.in_memory.clear();
        Ok(())
    }

    /// The records of one bucket, which is empty then.
    pub(super) fn take(&mut self, number: u64) -> Result<Vec<Keyed>, LogError> {
        let bucket = &mut self.0[number as usize];
        let context = || format!("read {}", bucket.path.display());
        let mut bytes = Vec::new();
        if let Some(file) = bucket.file.take() {
            bytes = read_back(file, &bucket.path).map_err(LogError::io(context()))?;
            fs::remove_file(&bucket.path).map_err(LogError::io(context()))?;
        }
        bytes.append(&mut bucket.in_memory);
        let entries = bytes.as_chunks().0.iter();
        Ok(entries.map(Keyed::decode).collect())
    }
}

fn read_back(file: UncachedWriter, path: &Path) -> io::Result<Vec<u8>> {
    let length = file.finish()?;
    let mut bytes = vec![0; length as usize];
    UncachedReader::open(path, IN_MEMORY)?.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

struct Bucket {
    path: PathBuf,
    file: Option<UncachedWriter>,
    in_memory: Vec<u8>,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // One that is left is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keyed(number: u64) -> Keyed {
        Keyed {
            hash: [
                first_half(&number.to_le_bytes()),
                second_half(&number.to_le_bytes()),
            ],
            newest: Newest {
                offset: number,
                is_tombstone: number.is_multiple_of(3),
                is_expired: number.is_multiple_of(9),
            },
        }
    }

    proptest! {
        #[test]
        fn a_record_is_what_it_was(
            hash in any::<[u64; 2]>(), offset in 0..EXPIRED, is_tombstone: bool, is_expired: bool,
        ) {
            let record = Keyed { hash, newest: Newest { offset, is_tombstone, is_expired } };
            prop_assert_eq!(Keyed::decode(&record.encode()), record);
        }
    }

    #[test]
    fn each_record_is_in_one_bucket_in_the_order_of_the_log_and_no_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let files = || fs::read_dir(folder.path()).unwrap().count();
        // The first fit in memory, the others do not.
        for records in [0, 100, 30_000] {
            let mut buckets = Buckets::new(folder.path(), 3);
            for number in 0..records {
                buckets.push(keyed(number)).unwrap();
            }
            assert_eq!(files(), if records > 100 { 3 } else { 0 });
            let mut all = Vec::new();
            for number in 0..buckets.len() {
                let taken = buckets.take(number).unwrap();
                assert!(taken.is_sorted_by_key(|record| record.newest.offset));
                assert!(taken.iter().all(|record| record.hash[0] % 3 == number));
                all.extend(taken);
            }
            all.sort_unstable_by_key(|record| record.newest.offset);
            assert_eq!(all, (0..records).map(keyed).collect::<Vec<_>>());
            assert_eq!(files(), 0);
        }
    }

    #[test]
    fn buckets_that_are_given_up_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut buckets = Buckets::new(folder.path(), 2);
        for number in 0..30_000 {
            buckets.push(keyed(number)).unwrap();
        }
        drop(buckets);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
