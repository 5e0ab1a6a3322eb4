//! The forms in which vectors are written.

use clap::ValueEnum;
use std::io::{self, BufWriter, Write};

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One array of vectors: [[0.01, …], …]
    Json,
    /// One object a line: {"index":0,"embedding":[0.01, …]}
    Jsonl,
    /// 32-bit little-endian floats, vector after vector
    Raw,
    /// A NumPy file: float32 [texts × dimensions]
    Npy,
}

impl Format {
    /// Whether it is not text.
    pub(crate) fn is_binary(self) -> bool {
        matches!(self, Format::Raw | Format::Npy)
    }
}

/// Writes vectors one after the other.
pub(crate) struct Writer<W: Write> {
    out: BufWriter<W>,
    format: Format,
    count: usize,
    dimensions: usize,
    /// Vectors that wait for their header, which tells how many there are.
    held: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W, format: Format, dimensions: usize) -> Self {
        Self { out: BufWriter::new(out), format, count: 0, dimensions, held: Vec::new() }
    }

    /// Writes the next vector.
    pub(crate) fn push(&mut self, vector: &[f32]) -> io::Result<()> {
        match self.format {
            Format::Json => {
                self.out.write_all(if self.count == 0 { b"[" } else { b"," })?;
                serde_json::to_writer(&mut self.out, vector)?;
            }
            Format::Jsonl => {
                // Not through `json!`, whose numbers are f64: that would print digits that an f32 does not have.
                write!(self.out, "{{\"index\":{},\"embedding\":", self.count)?;
                serde_json::to_writer(&mut self.out, vector)?;
                // Each line is out when it is done: who stops the program has all of them.
                self.out.write_all(b"}\n")?;
                self.out.flush()?;
            }
            Format::Raw => vector.iter().try_for_each(|x| self.out.write_all(&x.to_le_bytes()))?,
            Format::Npy => vector.iter().for_each(|x| self.held.extend_from_slice(&x.to_le_bytes())),
        }
        self.count += 1;
        Ok(())
    }

    /// Ends the output; when it returns, every byte has been taken.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match self.format {
            Format::Json => self.out.write_all(if self.count == 0 { b"[]\n" } else { b"]\n" })?,
            Format::Jsonl | Format::Raw => {}
            Format::Npy => {
                self.out.write_all(&npy_header(self.count, self.dimensions))?;
                self.out.write_all(&self.held)?;
            }
        }
        self.out.flush()
    }
}

/// Header of an NPY 1.0 file (NumPy Enhancement Proposal 1): magic, version, length, a Python literal, padded so that
/// the data starts at a multiple of 64.
fn npy_header(rows: usize, cols: usize) -> Vec<u8> {
    let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    let start = b"\x93NUMPY\x01\x00";
    let unpadded = start.len() + 2 + dict.len() + 1;
    let padding = unpadded.next_multiple_of(64) - unpadded;
    let len = (dict.len() + padding + 1) as u16;
    [start, &len.to_le_bytes()[..], dict.as_bytes(), &b" ".repeat(padding), b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::npy_header;

    #[test]
    fn npy_header_is_what_numpy_writes() {
        // numpy.save of zeros((3, 1024), "<f4"): its first 128 bytes.
        let dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1024), }";
        let mut expected = b"\x93NUMPY\x01\x00v\x00".to_vec();
        expected.extend_from_slice(dict.as_bytes());
        expected.resize(127, b' ');
        expected.push(b'\n');
        assert_eq!(npy_header(3, 1024), expected);
    }
}
