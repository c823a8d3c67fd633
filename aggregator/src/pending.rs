//! The pending range: what may or may not have reached the store, kept as commit metadata.
//!
//! While a range is pending, the group's position stays at its first offset. A restart therefore reads the range again and
//! settles it against the raw rows.

use event_log::{Committed, Offset};
use scan_model::Timestamp;

/// A range of offsets whose insert was about to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// The first offset.
    pub first: Offset,
    /// The offset behind the last.
    pub next: Offset,
    /// When it was recorded. The insert is sent soon after this, or never.
    pub recorded_at: Timestamp,
}

/// The metadata is not what this module writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "commit metadata {0:?} is not a pending range; the position was written by another program"
)]
pub struct PendingError(String);

impl Pending {
    /// The commit that records the range.
    pub fn to_commit(self) -> Committed {
        let metadata = format!("pending/1 {} {}", self.next, self.recorded_at.0);
        Committed {
            offset: self.first,
            metadata,
        }
    }

    /// The range that a commit records; `None` where nothing is pending.
    pub fn from_commit(committed: &Committed) -> Result<Option<Self>, PendingError> {
        if committed.metadata.is_empty() {
            return Ok(None);
        }
        let refuse = || PendingError(committed.metadata.clone());
        let mut words = committed.metadata.split(' ');
        let (Some("pending/1"), Some(next), Some(at), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(refuse());
        };
        let next = next.parse().map_err(|_| refuse())?;
        let recorded_at = Timestamp(at.parse().map_err(|_| refuse())?);
        if next < committed.offset {
            return Err(refuse());
        }
        Ok(Some(Self {
            first: committed.offset,
            next,
            recorded_at,
        }))
    }
}

/// The commit of a range that is settled.
pub const fn settled(next: Offset) -> Committed {
    Committed {
        offset: next,
        metadata: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pending_range_reads_back(first: u32, length: u32, at: i64) {
            let first = u64::from(first);
            let pending = Pending { first, next: first + u64::from(length), recorded_at: Timestamp(at) };
            prop_assert_eq!(Pending::from_commit(&pending.to_commit()), Ok(Some(pending)));
        }

        #[test]
        fn any_other_metadata_is_refused(metadata in "[ -~]{1,60}") {
            prop_assume!(!metadata.starts_with("pending/1 "));
            let committed = Committed { offset: 1, metadata };
            prop_assert!(Pending::from_commit(&committed).is_err());
        }
    }

    #[test]
    fn a_settled_position_has_nothing_pending() {
        assert_eq!(Pending::from_commit(&settled(7)), Ok(None));
    }
}
