//! Sends what was written to a file on its way to the disk, without waiting for it.
//!
//! The only `unsafe` of this crate. A journalling file system commits once for all files whose blocks it has placed by then, and once
//! more for each that it places later. So a group that has written to many partitions starts all of their writes before it
//! waits for the first.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Starts writing so many bytes from `position` on. They are durable only after a sync, which also reports what fails here later.
///
/// # Errors
/// Where the file system refuses; the sync that follows then does the whole work.
pub(super) fn start(file: &File, position: u64, length: u64) -> io::Result<()> {
    let (position, length) = (position.cast_signed(), length.cast_signed());
    let descriptor = file.as_raw_fd();
    // SAFETY: the call takes a descriptor, which `file` keeps open, and three numbers; it touches no memory of this program's.
    let result =
        unsafe { libc::sync_file_range(descriptor, position, length, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_on_its_way_is_still_there_to_be_synced_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment");
        let mut file = File::create(&path).unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        start(&file, 0, 10_000).unwrap();
        file.write_all(&[8; 10]).unwrap();
        start(&file, 10_000, 10).unwrap();
        file.sync_data().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes[..10_000].iter().all(|byte| *byte == 7));
        assert_eq!(bytes[10_000..], [8; 10]);
    }

    #[test]
    fn a_range_that_no_file_has_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(start(&file, u64::MAX, 1).is_err());
    }
}
