//! The forms in which vectors are written.

use clap::ValueEnum;
use qembed_q::corpus::NpyWriter;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Stdout, Write};
use std::path::PathBuf;

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

    /// Whether a vector says to which text it belongs, so that others may be left out.
    pub(crate) fn has_index(self) -> bool {
        self == Format::Jsonl
    }
}

/// Writes vectors to standard output, one after the other, in bounded memory.
pub(crate) struct Writer {
    format: Format,
    /// Vectors taken.
    count: usize,
    sink: Sink,
}

enum Sink {
    Stream(BufWriter<Stdout>),
    /// Standard output is a file: the number of rows is written when it is known.
    Npy(NpyWriter<File>),
    /// It is not: the rows wait in a temporary file.
    SpooledNpy(NpyWriter<File>, Stdout),
}

impl Writer {
    /// Nothing is written before there is a vector.
    pub(crate) fn new(format: Format, dimensions: usize) -> io::Result<Self> {
        let sink = match (format, plain_file()) {
            (Format::Npy, Some(file)) => Sink::Npy(NpyWriter::new(file, dimensions)?),
            (Format::Npy, None) => Sink::SpooledNpy(NpyWriter::new(spool()?, dimensions)?, io::stdout()),
            _ => Sink::Stream(BufWriter::new(io::stdout())),
        };
        Ok(Self { format, count: 0, sink })
    }

    /// Vectors taken so far.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Writes the next vector, that of text `index`.
    pub(crate) fn push(&mut self, index: usize, vector: &[f32]) -> io::Result<()> {
        match &mut self.sink {
            Sink::Npy(npy) => npy.push(vector)?,
            Sink::SpooledNpy(npy, _) => npy.push(vector).map_err(no_spool)?,
            Sink::Stream(out) => match self.format {
                Format::Json => {
                    out.write_all(if self.count == 0 { b"[" } else { b"," })?;
                    serde_json::to_writer(out, vector)?;
                }
                Format::Jsonl => {
                    // Not through `json!`, whose numbers are f64: that would print digits that an f32 does not have.
                    write!(out, "{{\"index\":{index},\"embedding\":")?;
                    serde_json::to_writer(&mut *out, vector)?;
                    out.write_all(b"}\n")?;
                }
                Format::Raw | Format::Npy => vector.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))?,
            },
        }
        self.count += 1;
        Ok(())
    }

    /// Hands on what there is, so that a killed program has lost none of it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Stream(out) => out.flush(),
            Sink::Npy(npy) => npy.flush(),
            Sink::SpooledNpy(npy, _) => npy.flush().map_err(no_spool),
        }
    }

    /// Ends the output, which is whole then; when it returns, every byte has been taken.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self.sink {
            Sink::Stream(mut out) => {
                if self.format == Format::Json {
                    out.write_all(if self.count == 0 { b"[]\n" } else { b"]\n" })?;
                }
                out.flush()
            }
            Sink::Npy(npy) => npy.finish().map(drop),
            Sink::SpooledNpy(mut npy, mut out) => {
                let flushed = npy.flush().map_err(no_spool);
                let (mut spool, bytes) = npy.finish()?;
                spool.rewind()?;
                io::copy(&mut spool.take(bytes), &mut out)?;
                out.flush()?;
                flushed
            }
        }
    }
}

/// Standard output, if it is a file in which one can go back. Not one that is appended to (`>>`): what is written there
/// stands at its end, wherever one has gone.
#[cfg(unix)]
fn plain_file() -> Option<File> {
    use std::os::fd::AsFd;
    let file = File::from(io::stdout().as_fd().try_clone_to_owned().ok()?);
    let appends = rustix::fs::fcntl_getfl(&file).ok()?.contains(rustix::fs::OFlags::APPEND);
    (file.metadata().ok()?.is_file() && !appends).then_some(file)
}

/// Whether it is appended to cannot be asked here.
#[cfg(not(unix))]
fn plain_file() -> Option<File> {
    None
}

/// A file without a name for as many bytes as come.
fn spool() -> io::Result<File> {
    tempfile::tempfile_in(spool_folder()).map_err(no_spool)
}

fn spool_folder() -> PathBuf {
    // Where the folder for temporary files is kept in memory, the one for large ones is not.
    let large = PathBuf::from("/var/tmp");
    match std::env::var_os("TMPDIR") {
        None if cfg!(unix) && large.is_dir() => large,
        _ => std::env::temp_dir(),
    }
}

fn no_spool(error: io::Error) -> io::Error {
    let place = spool_folder();
    let place = place.display();
    io::Error::new(
        error.kind(),
        format!("{error}: vectors wait in {place} for their number; TMPDIR names another folder"),
    )
}
