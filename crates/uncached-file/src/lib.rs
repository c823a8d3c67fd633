//! Files read and written past the page cache, where the file system can (`O_DIRECT`, open(2)).
//!
//! A snapshot is gigabytes that nothing reads again before a restart. Through the page cache it would push other pages out,
//! go to the disk in bursts ahead of everything else, and be freed in one stroke when its file is replaced: on a virtual machine
//! that hands free memory back to its host, that alone held up lookups by some 30 ms for seconds (decision 0016).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// What offsets, lengths and addresses are multiples of: no disk's logical block is larger.
const BLOCK: usize = 4096;

fn open(options: &mut OpenOptions, file: &Path) -> io::Result<File> {
    let past_the_cache = options
        .clone()
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(file);
    match past_the_cache {
        // A file system without it, such as an older tmpfs.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => options.open(file),
        outcome => outcome,
    }
}

/// Bytes at an address that is a multiple of a block.
struct Aligned {
    bytes: Vec<u8>,
    begins: usize,
    length: usize,
}

impl Aligned {
    /// # Panics
    /// Where the length is no multiple of a block.
    fn new(length: usize) -> Self {
        assert!(length.is_multiple_of(BLOCK));
        let bytes = vec![0; length + BLOCK];
        let begins = bytes.as_ptr().align_offset(BLOCK);
        Self {
            bytes,
            begins,
            length,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.begins..self.begins + self.length]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.begins..self.begins + self.length]
    }
}

/// Writes a new file from its start to its end.
pub struct UncachedWriter {
    file: File,
    part: Aligned,
    filled: usize,
    written: u64,
}

impl UncachedWriter {
    /// Makes the file empty. It is written by `part` bytes at a time, a multiple of 4,096.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Panics
    /// Where `part` is no such multiple.
    pub fn create(file: &Path, part: usize) -> io::Result<Self> {
        let file = open(
            OpenOptions::new().write(true).create(true).truncate(true),
            file,
        )?;
        Ok(Self {
            file,
            part: Aligned::new(part),
            filled: 0,
            written: 0,
        })
    }

    /// The bytes taken so far.
    pub const fn length(&self) -> u64 {
        self.written + self.filled as u64
    }

    /// Writes what is left and waits until all of it is on the disk; answers the file's bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self) -> io::Result<u64> {
        let length = self.length();
        let end = self.filled.next_multiple_of(BLOCK);
        self.part.bytes_mut()[self.filled..end].fill(0);
        self.file
            .write_all_at(&self.part.bytes()[..end], self.written)?;
        self.file.set_len(length)?;
        self.file.sync_all()?;
        Ok(length)
    }
}

impl Write for UncachedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filled == self.part.length {
            self.file.write_all_at(self.part.bytes(), self.written)?;
            self.written += self.filled as u64;
            self.filled = 0;
        }
        let count = bytes.len().min(self.part.length - self.filled);
        let room = &mut self.part.bytes_mut()[self.filled..];
        room[..count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        Ok(count)
    }

    /// Nothing to do: only [`Self::finish`] makes the bytes whole.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a file at any place; places that ascend cost one reading of each part.
pub struct UncachedReader {
    file: File,
    length: u64,
    part: Aligned,
    part_begins: u64,
    part_filled: usize,
}

impl UncachedReader {
    /// Opens the file. It is read by `part` bytes at a time, a multiple of 4,096.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Panics
    /// Where `part` is no such multiple.
    pub fn open(file: &Path, part: usize) -> io::Result<Self> {
        let file = open(OpenOptions::new().read(true), file)?;
        let length = file.metadata()?.len();
        Ok(Self {
            file,
            length,
            part: Aligned::new(part),
            part_begins: 0,
            part_filled: 0,
        })
    }

    /// The file's bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Fills `bytes` from a place on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the file ends before, and the system's.
    pub fn read_exact_at(&mut self, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let here = self.at(at)?;
            let count = here.len().min(bytes.len());
            bytes[..count].copy_from_slice(&here[..count]);
            bytes = &mut bytes[count..];
            at += count as u64;
        }
        Ok(())
    }

    /// What is in memory from a place on, read first where nothing is; never empty.
    fn at(&mut self, at: u64) -> io::Result<&[u8]> {
        let part_ends = self.part_begins + self.part_filled as u64;
        if !(self.part_begins..part_ends).contains(&at) {
            self.part_begins = at - at % BLOCK as u64;
            self.part_filled = 0;
            self.part_filled = self.fill(self.part_begins)?;
        }
        let skipped = (at - self.part_begins) as usize;
        match self.part.bytes().get(skipped..self.part_filled) {
            Some(here) if !here.is_empty() => Ok(here),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads a part; answers its bytes, fewer only at the file's end.
    fn fill(&mut self, begins: u64) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            let room = &mut self.part.bytes_mut()[filled..];
            match self.file.read_at(room, begins + filled as u64) {
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            // A reading that ends within a block has met the file's end.
            if filled == self.part.length
                || !filled.is_multiple_of(BLOCK)
                || begins + filled as u64 >= self.length
            {
                return Ok(filled);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 % 251) as u8).collect()
    }

    #[test]
    fn what_was_written_is_read_whatever_its_length_and_the_places_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 4 * BLOCK, 9 * BLOCK + 17] {
            let whole = pattern(length);
            let mut writer = UncachedWriter::create(&file, 2 * BLOCK).unwrap();
            for piece in whole.chunks(1000) {
                writer.write_all(piece).unwrap();
            }
            assert_eq!(writer.length(), length as u64);
            assert_eq!(writer.finish().unwrap(), length as u64);
            assert_eq!(std::fs::read(&file).unwrap(), whole);
            let mut reader = UncachedReader::open(&file, 2 * BLOCK).unwrap();
            assert_eq!(reader.length(), length as u64);
            for (at, count) in [
                (0, length),
                (length / 2, length / 3),
                (0, length.min(5)),
                (length, 0),
            ] {
                let mut bytes = vec![0; count];
                reader.read_exact_at(&mut bytes, at as u64).unwrap();
                assert_eq!(bytes, whole[at..at + count], "{length}: {count} at {at}");
            }
            let beyond = reader.read_exact_at(&mut [0; 1], length as u64);
            assert_eq!(beyond.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn nothing_of_the_file_stays_in_the_page_cache() {
        // Beside this program: a folder for temporary files may have no disk under it.
        let program = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let file = folder.path().join("f");
        let mut writer = UncachedWriter::create(&file, 64 * BLOCK).unwrap();
        writer.write_all(&pattern(1000 * BLOCK)).unwrap();
        writer.finish().unwrap();
        let mut reader = UncachedReader::open(&file, 64 * BLOCK).unwrap();
        reader.read_exact_at(&mut vec![0; 1000 * BLOCK], 0).unwrap();
        assert!(!is_cached(&file, 500));
        // The same file read the usual way: the question can be answered with yes.
        std::fs::read(&file).unwrap();
        assert!(is_cached(&file, 500));
    }

    /// Whether a block can be read without waiting for the disk.
    fn is_cached(file: &Path, block: u64) -> bool {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        let file = File::open(file).unwrap();
        let mut bytes = [0; BLOCK];
        let mut bytes = [io::IoSliceMut::new(&mut bytes)];
        let at = block * BLOCK as u64;
        match preadv2(&file, &mut bytes, at, ReadWriteFlags::NOWAIT) {
            Ok(_) => true,
            Err(Errno::AGAIN) => false,
            Err(error) => panic!("{error}"),
        }
    }
}
