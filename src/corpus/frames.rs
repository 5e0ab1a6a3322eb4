//! Frames of a file that only grows: length, checksum, bytes. One that is cut short or torn by a crash is none, and nor is what follows it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

/// The most bytes that a frame can have: a longer one is damaged.
const MAX_FRAME: u32 = 1 << 30;

/// Appends a frame, where the file stands.
pub(super) fn write_frame(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let mut head = (bytes.len() as u32).to_le_bytes().to_vec();
    head.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
    file.write_all(&head)?;
    file.write_all(bytes)
}

/// Frames of a file, one after the other.
#[derive(Debug)]
pub(super) struct Frames {
    file: BufReader<File>,
    at: u64,
}

impl Frames {
    /// Those that begin at a byte of the file. The handle is a copy, since Windows closes a locked file to all others; it shares where it
    /// stands.
    pub(super) fn new(file: &File, at: u64) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(1 << 18, file.try_clone()?);
        file.seek(SeekFrom::Start(at))?;
        Ok(Self { file, at })
    }

    /// Behind the last whole frame.
    pub(super) fn end(&self) -> u64 {
        self.at
    }

    /// The next frame; `None` where none is whole.
    pub(super) fn next_frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut head = [0; 8];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let [length, sum] = [&head[..4], &head[4..]].map(|four| u32::from_le_bytes(four.try_into().expect("four")));
        if !(1..=MAX_FRAME).contains(&length) {
            return Ok(None);
        }
        let mut bytes = vec![0; length as usize];
        if !self.fill(&mut bytes)? || crc32fast::hash(&bytes) != sum {
            return Ok(None);
        }
        self.at += 8 + u64::from(length);
        Ok(Some(bytes))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        match self.file.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}
