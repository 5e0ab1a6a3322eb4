//! The forms in which vectors are written.

use clap::ValueEnum;
use qembed_q::Embeddings;
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

/// Writes all vectors; when it returns, `out` has taken every byte.
pub(crate) fn write(embeddings: &Embeddings, format: Format, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    match format {
        Format::Json => {
            serde_json::to_writer(&mut out, &embeddings.iter().collect::<Vec<_>>())?;
            out.write_all(b"\n")?;
        }
        Format::Jsonl => {
            for (index, embedding) in embeddings.iter().enumerate() {
                // Not through `json!`, whose numbers are f64: that would print digits that an f32 does not have.
                write!(out, "{{\"index\":{index},\"embedding\":")?;
                serde_json::to_writer(&mut out, embedding)?;
                out.write_all(b"}\n")?;
            }
        }
        Format::Raw => floats(embeddings, &mut out)?,
        Format::Npy => {
            out.write_all(&npy_header(embeddings.len(), embeddings.dimensions()))?;
            floats(embeddings, &mut out)?;
        }
    }
    out.flush()
}

fn floats(embeddings: &Embeddings, out: &mut impl Write) -> io::Result<()> {
    embeddings.as_flat().iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))
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
