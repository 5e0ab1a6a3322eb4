//! Files as they are read: compressed or not, which their first bytes tell.

use crate::corpus::read::error::{Compression, ReadError, ReadProblem};
use crate::corpus::read::reader::{Input, Origin};
use flate2::bufread::MultiGzDecoder;
use qembed_models::text::without_mark;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 16;

/// First bytes of packed files that are not unpacked here.
const PACKED: [(&[u8], &str); 5] = [
    (b"PK\x03\x04", "a ZIP archive (or an Excel file)"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\0", "an xz file"),
    (b"\x04\x22\x4d\x18", "an LZ4 file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
];

/// How bytes are compressed, by the first of them.
pub(super) fn compression(head: &[u8]) -> Option<Compression> {
    match head {
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Compression::Zstd),
        _ => None,
    }
}

/// Opens a file and unpacks it.
pub(super) fn open(path: &Path, shown: &Arc<Path>) -> Result<(Origin, Input), ReadError> {
    let mut origin = Origin { shown: shown.clone(), compression: None };
    let file = File::open(path).map_err(|error| origin.error(ReadProblem::Open(error)))?;
    let mut file = BufReader::with_capacity(BUFFER, file);
    let head = file.fill_buf().map_err(|error| origin.failed(error))?;
    if let Some((_, kind)) = PACKED.iter().find(|(start, _)| head.starts_with(start)) {
        return Err(origin.error(ReadProblem::Packed { kind }));
    }
    origin.compression = compression(head);
    let input: Input = match origin.compression {
        None => Box::new(file),
        Some(Compression::Gzip) => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))),
        Some(Compression::Zstd) => {
            let decoder = zstd::Decoder::with_buffer(file).map_err(|error| origin.failed(error))?;
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        }
    };
    Ok((origin, input))
}

/// Opens a text file: without the byte order mark, if it has one.
pub(super) fn open_text(path: &Path, shown: &Arc<Path>) -> Result<(Origin, Input), ReadError> {
    let (origin, mut input) = open(path, shown)?;
    let mut head = Vec::new();
    input.by_ref().take(3).read_to_end(&mut head).map_err(|error| origin.failed(error))?;
    let rest = without_mark(&head).map_err(|error| origin.error(ReadProblem::Encoding(error)))?;
    let input: Input = if rest.is_empty() { input } else { Box::new(Cursor::new(rest.to_vec()).chain(input)) };
    Ok((origin, input))
}

/// The first bytes of a file, as it is; fewer if it has fewer.
pub(super) fn head(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(bytes).read_to_end(&mut head)?;
    Ok(head)
}
