//! Parts that say nothing of themselves, put one behind the other.

use crate::corpus::merge::error::MergeError;
use crate::corpus::npy::NpyWriter;
use crate::corpus::write::{OutputFormat, WriteError, Written, json};
use crate::gguf::AtomicFile;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write, copy};
use std::path::{Path, PathBuf};

pub(crate) fn merge(format: OutputFormat, parts: &[PathBuf], out: &Path) -> Result<Written, MergeError> {
    let file = AtomicFile::create(out).map_err(WriteError::io(out))?;
    let file = match format {
        OutputFormat::Csv => tables(parts, out, file, b',')?,
        OutputFormat::Tsv => tables(parts, out, file, b'\t')?,
        OutputFormat::Json => arrays(parts, out, file)?,
        OutputFormat::Npy => matrices(parts, out, file)?,
        OutputFormat::Raw => bytes(parts, out, file, false)?,
        _ => bytes(parts, out, file, true)?,
    };
    file.commit().map_err(WriteError::io(out))?;
    Ok(Written { files: vec![out.to_owned()], ..Written::default() })
}

/// Opens a part; with its bytes.
fn open(path: &Path) -> Result<(File, u64), MergeError> {
    let file = File::open(path).map_err(MergeError::read(path))?;
    let size = file.metadata().map_err(MergeError::read(path))?.len();
    Ok((file, size))
}

fn not_whole(path: &Path, what: &'static str) -> MergeError {
    MergeError::NotWhole { path: path.to_owned(), what }
}

/// Copies the bytes of a part from where it stands, so many.
fn append(part: File, bytes: u64, out: &Path, to: &mut AtomicFile) -> Result<(), MergeError> {
    copy(&mut part.take(bytes), to).map_err(WriteError::io(out))?;
    Ok(())
}

/// That a part of lines ends with the end of one.
fn ends_a_line(path: &Path, part: &mut File, size: u64) -> Result<(), MergeError> {
    let mut last = *b"\n";
    let mut read = || {
        if size > 0 {
            part.seek(SeekFrom::End(-1))?;
            part.read_exact(&mut last)?;
        }
        part.rewind()
    };
    read().map_err(MergeError::read(path))?;
    if last == *b"\n" { Ok(()) } else { Err(not_whole(path, "it ends within a line, so it is not whole")) }
}

fn bytes(parts: &[PathBuf], out: &Path, mut to: AtomicFile, lines: bool) -> Result<AtomicFile, MergeError> {
    for path in parts {
        let (mut part, size) = open(path)?;
        if lines {
            ends_a_line(path, &mut part, size)?;
        }
        append(part, size, out, &mut to)?;
    }
    Ok(to)
}

/// Tables with the same header, which the whole has once.
fn tables(parts: &[PathBuf], out: &Path, mut to: AtomicFile, delimiter: u8) -> Result<AtomicFile, MergeError> {
    let mut header: Option<Vec<u8>> = None;
    for path in parts {
        let (mut part, size) = open(path)?;
        ends_a_line(path, &mut part, size)?;
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(BufReader::new(&mut part));
        reader.byte_headers().map_err(|error| MergeError::read(path)(error.into()))?;
        let end = reader.position().byte();
        drop(reader);
        let mut found = vec![0; end as usize];
        part.rewind().and_then(|()| part.read_exact(&mut found)).map_err(MergeError::read(path))?;
        match &header {
            None => {
                to.write_all(&found).map_err(WriteError::io(out))?;
                header = Some(found);
            }
            Some(expected) if *expected != found => {
                let shown = |header: &[u8]| String::from_utf8_lossy(header).trim_end().to_owned();
                return Err(MergeError::Differs {
                    path: path.clone(),
                    first: parts[0].clone(),
                    key: "header".into(),
                    found: shown(&found),
                    expected: shown(expected),
                });
            }
            Some(_) => {}
        }
        append(part, size - end, out, &mut to)?;
    }
    Ok(to)
}

/// Arrays in JSON, as this program writes them.
fn arrays(parts: &[PathBuf], out: &Path, mut to: AtomicFile) -> Result<AtomicFile, MergeError> {
    let failed = WriteError::io(out);
    let mut empty = true;
    for path in parts {
        let (mut part, size) = open(path)?;
        let mut is = |at: SeekFrom, expected: &[u8]| {
            let mut found = vec![0; expected.len()];
            part.seek(at).and_then(|_| part.read_exact(&mut found)).map_err(MergeError::read(path))?;
            Ok::<_, MergeError>(found == expected)
        };
        let start = SeekFrom::Start(0);
        if size == json::EMPTY.len() as u64 && is(start, json::EMPTY)? {
            continue;
        }
        let around = (json::BEGIN.len() + json::END.len()) as u64;
        let end = SeekFrom::End(-(json::END.len() as i64));
        // What begins an array is read last: after it come the objects.
        if size < around || !is(end, json::END)? || !is(start, json::BEGIN)? {
            return Err(not_whole(path, "no array of this program, or not whole"));
        }
        to.write_all(if empty { json::BEGIN } else { json::BETWEEN }).map_err(&failed)?;
        empty = false;
        append(part, size - around, out, &mut to)?;
    }
    to.write_all(if empty { json::EMPTY } else { json::END }).map_err(&failed)?;
    Ok(to)
}

/// Matrices of the same type and number of columns.
fn matrices(parts: &[PathBuf], out: &Path, to: AtomicFile) -> Result<AtomicFile, MergeError> {
    let failed = WriteError::io(out);
    let mut first = None;
    let mut to = Some(to);
    let mut writer = None;
    for path in parts {
        let (mut part, size) = open(path)?;
        let mut header = [0; NpyWriter::<File>::HEADER];
        let read = part.read_exact(&mut header);
        let shape = read.ok().and_then(|()| shape(&header)).filter(|shape| shape.bytes() + header.len() as u64 == size);
        let shape = shape.ok_or_else(|| not_whole(path, "no matrix of this program, or not whole"))?;
        let kind = (shape.descr, shape.columns);
        let shown = |(descr, columns): (&str, u64)| format!("{columns} × {descr}");
        if *first.get_or_insert(kind) != kind {
            return Err(MergeError::Differs {
                path: path.clone(),
                first: parts[0].clone(),
                key: "row".into(),
                found: shown(kind),
                expected: first.map(shown).unwrap_or_default(),
            });
        }
        if let Some(file) = to.take() {
            writer = Some(NpyWriter::with_descr(file, shape.columns as usize, shape.descr).map_err(&failed)?);
        }
        let mut part = BufReader::new(part);
        let mut row = vec![0; (shape.bytes() / shape.rows.max(1)) as usize];
        for _ in 0..shape.rows {
            part.read_exact(&mut row).map_err(MergeError::read(path))?;
            if let Some(writer) = &mut writer {
                writer.push_bytes(&row).map_err(&failed)?;
            }
        }
    }
    let writer = writer.ok_or(MergeError::NoParts)?;
    Ok(writer.finish().map_err(&failed)?.0)
}

/// What a matrix's header says.
struct Shape {
    descr: &'static str,
    rows: u64,
    columns: u64,
}

impl Shape {
    fn bytes(&self) -> u64 {
        let number = match self.descr {
            "<f4" => 4,
            "<f2" => 2,
            _ => 1,
        };
        self.rows.saturating_mul(self.columns).saturating_mul(number)
    }
}

/// Reads a header that this program has written.
fn shape(header: &[u8]) -> Option<Shape> {
    let text = str::from_utf8(header.get(10..)?).ok()?;
    let (descr, rest) = text.strip_prefix("{'descr': '")?.split_once("', 'fortran_order': False, 'shape': (")?;
    let (rows, columns) = rest.split_once("), }")?.0.split_once(", ")?;
    let descr = ["<f4", "<f2", "|i1", "|u1"].into_iter().find(|known| *known == descr)?;
    Some(Shape { descr, rows: rows.parse().ok()?, columns: columns.parse().ok()? })
}
