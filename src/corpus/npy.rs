//! NPY 1.0 files (NumPy Enhancement Proposal 1) of matrices whose number of rows is not known beforehand.

use std::io::{self, Seek, SeekFrom, Write};

/// Bytes of a header, whatever the number of rows: the data starts at a multiple of 64.
const HEADER: u64 = 128;
/// Bytes that wait to be written together.
const BUFFER: usize = 1 << 18;
/// NumPy's name of float32, little-endian.
const FLOAT32: &str = "<f4";

/// Writes a matrix row by row, from where `file` stands on. After each [`flush`](Self::flush) the file is whole: its header
/// tells the rows that stand in it.
pub struct NpyWriter<F> {
    file: F,
    /// Where the header begins.
    start: u64,
    columns: usize,
    descr: &'static str,
    /// Rows in the file.
    rows: u64,
    begun: bool,
    waiting: Vec<u8>,
}

impl<F> NpyWriter<F> {
    /// Bytes before the first row.
    pub const HEADER: usize = HEADER as usize;
}

impl<F: Write + Seek> NpyWriter<F> {
    /// For float32. Nothing is written yet.
    ///
    /// # Errors
    /// When the file does not tell where it stands.
    pub fn new(file: F, columns: usize) -> io::Result<Self> {
        Self::with_descr(file, columns, FLOAT32)
    }

    /// For numbers of the type that NumPy calls so: its order of bytes, its kind, and its bytes, of which there are less than
    /// ten (`<f4`, `|i1`). Nothing is written yet.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_descr(mut file: F, columns: usize, descr: &'static str) -> io::Result<Self> {
        let start = file.stream_position()?;
        Ok(Self { file, start, columns, descr, rows: 0, begun: false, waiting: Vec::new() })
    }

    /// Adds a row of float32, of as many values as there are columns.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn push(&mut self, row: &[f32]) -> io::Result<()> {
        debug_assert_eq!((row.len(), self.descr), (self.columns, FLOAT32));
        row.iter().for_each(|x| self.waiting.extend_from_slice(&x.to_le_bytes()));
        if self.waiting.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Adds a row as its bytes stand in the file.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn push_bytes(&mut self, row: &[u8]) -> io::Result<()> {
        debug_assert_eq!(row.len() as u64, self.row_bytes());
        self.waiting.extend_from_slice(row);
        if self.waiting.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Writes out all rows.
    ///
    /// # Errors
    /// When not all can be written; what could be is in the file, as far as it makes whole rows.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.write_header()?;
        let written = self.file.write_all(&self.waiting);
        self.waiting.clear();
        let end = self.file.stream_position()?;
        self.rows = end.saturating_sub(self.start + HEADER) / self.row_bytes();
        let counted = self.write_header();
        written.and(counted)
    }

    /// Ends the matrix. Gives back the file, and the bytes of the matrix, after which the file stands.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn finish(mut self) -> io::Result<(F, u64)> {
        self.flush()?;
        if !self.begun {
            self.write_header()?;
        }
        let bytes = HEADER + self.rows * self.row_bytes();
        Ok((self.file, bytes))
    }

    /// Writes the header, and goes behind the last row.
    fn write_header(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.start))?;
        self.file.write_all(&header(self.descr, self.rows, self.columns))?;
        self.begun = true;
        self.file.seek(SeekFrom::Start(self.start + HEADER + self.rows * self.row_bytes()))?;
        Ok(())
    }

    fn row_bytes(&self) -> u64 {
        let number = self.descr.bytes().last().map_or(0, |digit| digit.saturating_sub(b'0'));
        self.columns as u64 * u64::from(number)
    }
}

/// Magic, version, length, a Python literal, and blanks.
fn header(descr: &str, rows: u64, columns: usize) -> Vec<u8> {
    let start = b"\x93NUMPY\x01\x00";
    let length = HEADER as usize - start.len() - 2;
    let shape = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let literal = format!("{shape:<width$}\n", width = length - 1);
    [start, &(length as u16).to_le_bytes()[..], literal.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn the_header_is_what_numpy_writes() {
        // numpy.save of zeros((3, 1024), "<f4"): its first 128 bytes.
        let dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1024), }";
        let mut expected = b"\x93NUMPY\x01\x00v\x00".to_vec();
        expected.extend_from_slice(dict.as_bytes());
        expected.resize(127, b' ');
        expected.push(b'\n');
        assert_eq!(header("<f4", 3, 1024), expected);
        assert_eq!(header("|i1", u64::MAX, 1 << 20).len(), 128);
    }

    /// A matrix of ones and a half as it stands in a file.
    fn matrix(rows: u64) -> Vec<u8> {
        [header("<f4", rows, 3), [1f32, 1.0, 0.5].repeat(rows as usize).iter().flat_map(|x| x.to_le_bytes()).collect()]
            .concat()
    }

    #[test]
    fn the_file_is_whole_after_every_flush() {
        let mut file = Cursor::new(b"before".to_vec());
        file.seek(SeekFrom::End(0)).unwrap();
        let mut npy = NpyWriter::new(file, 3).unwrap();
        assert_eq!(npy.file.get_ref(), b"before", "nothing is written before there is something");
        for rows in 1..4 {
            npy.push(&[1.0, 1.0, 0.5]).unwrap();
            npy.flush().unwrap();
            assert_eq!(npy.file.get_ref()[6..], matrix(rows));
        }
        let (mut file, bytes) = npy.finish().unwrap();
        assert_eq!(bytes as usize, matrix(3).len());
        file.write_all(b"after").unwrap();
        assert_eq!(file.into_inner(), [b"before", &matrix(3)[..], b"after"].concat());

        let (file, _) = NpyWriter::new(Cursor::new(Vec::new()), 3).unwrap().finish().unwrap();
        assert_eq!(file.into_inner(), matrix(0), "no rows are a matrix, too");
    }

    /// A disk with room for so many bytes.
    struct Full(Cursor<Vec<u8>>, u64);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.1.saturating_sub(self.0.position()) {
                0 => Err(io::ErrorKind::StorageFull.into()),
                room => self.0.write(&bytes[..bytes.len().min(room as usize)]),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Full {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn a_full_disk_keeps_whole_rows() {
        for (room, rows) in [(128 + 25, 2), (128 + 23, 1), (128, 0)] {
            let mut npy = NpyWriter::new(Full(Cursor::new(Vec::new()), room), 3).unwrap();
            (0..3).for_each(|_| npy.push(&[1.0, 1.0, 0.5]).unwrap());
            assert_eq!(npy.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
            let (file, bytes) = npy.finish().unwrap();
            assert_eq!(file.0.into_inner()[..bytes as usize], matrix(rows));
        }
    }
}
