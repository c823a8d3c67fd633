//! Maps a key to a partition, the same on every backend and in every build.

use crate::record::Partition;

/// The partition of a 64-bit key: the key is mixed (the finaliser of MurmurHash3), then scaled to the count, so that
/// neighbouring keys spread and no partition is more than one key in 2³² heavier.
///
/// # Panics
/// Never: a count of zero answers partition 0.
pub const fn partition_for(key: u64, partitions: u32) -> Partition {
    let mut mixed = key;
    mixed ^= mixed >> 33;
    mixed = mixed.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    mixed ^= mixed >> 33;
    mixed = mixed.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    mixed ^= mixed >> 33;
    (((mixed >> 32) * partitions as u64) >> 32) as Partition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_a_key_never_changes() {
        let golden = [0, 1, 2, 3, u64::MAX, 0x0123_4567_89AB_CDEF].map(|key| partition_for(key, 8));
        assert_eq!(golden, [0, 5, 1, 0, 3, 4]);
    }

    #[test]
    fn keys_spread_evenly() {
        let mut counts = [0_u32; 7];
        for key in 0..70_000 {
            counts[partition_for(key, 7) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (9_500..10_500).contains(count)),
            "{counts:?}"
        );
    }
}
