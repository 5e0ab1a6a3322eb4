//! A GGUF file at another level: tensor by tensor, in pieces, on several threads.

use crate::gguf::{AtomicFile, Gguf, GgufBuilder, GgufError, GgufWriteError, Tensor};
use crate::level::{Level, Place};
use qembed_kernels::formats::Format;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

/// Values that a thread takes at a time: 4 MiB of f32.
const PIECE: usize = 1 << 20;

/// Why a file could not be quantized. Nothing is left of the output then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the message of a variant is its documentation
pub enum QuantizeError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    #[error("cannot write {path}: {source}; nothing was kept{}", advice(.source))]
    Io { path: PathBuf, source: io::Error },
    #[error("{0} exists: choose another name, or overwrite it with --force")]
    Exists(PathBuf),
    #[error("{0} is an input: a file cannot be replaced by what is made of it, choose another name")]
    InPlace(PathBuf),
    #[error(
        "tensor {tensor}: value {index} is {value}, and only finite weights can be quantized; is the file damaged?"
    )]
    NotFinite { tensor: String, index: usize, value: f32 },
    #[error("tensor {tensor} has rows of {row_len} values, which {format} cannot store: its blocks have {block}")]
    Rows { tensor: String, row_len: usize, format: Format, block: usize },
    #[error("{0} can be read but not written: choose another type")]
    Unwritable(Format),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ": free some space, or write elsewhere"
        }
        _ => "",
    }
}

/// What to write.
pub struct Quantize<'a> {
    /// The level to write.
    pub level: Level,
    /// Formats for tensors by name, before the level's own choice; `None` leaves it to the level.
    pub choose: &'a dyn Fn(&str) -> Option<Format>,
    /// Threads to work with, at least 1.
    pub threads: usize,
    /// Whether an existing output may be replaced.
    pub force: bool,
    /// Called with the bytes of input done and their number, from time to time.
    pub progress: &'a dyn Fn(u64, u64),
}

/// The format of each tensor of `gguf` at a level: vectors and norms stay as they are.
pub fn plan(gguf: &Gguf, level: Level) -> Result<Vec<(String, Format)>, GgufError> {
    let architecture = gguf.str("general.architecture")?.unwrap_or_default().to_owned();
    let number = |name: &str| Ok::<_, GgufError>(gguf.u32(&format!("{architecture}.{name}"))?.map(|n| n as usize));
    let heads = number("attention.head_count")?.unwrap_or(1);
    let group = heads / number("attention.head_count_kv")?.unwrap_or(heads).max(1);
    let layers = number("block_count")?.unwrap_or(0);
    let mut formats = Vec::with_capacity(gguf.tensors().len());
    for info in gguf.tensors() {
        let tensor = gguf.require_tensor(&info.name)?;
        formats.push((info.name.clone(), format_at(level, &info.name, &tensor, layers, group)));
    }
    Ok(formats)
}

/// The format of one tensor at a level, in a model of so many layers and query heads for each key-value head.
pub(crate) fn format_at(level: Level, name: &str, tensor: &Tensor, layers: usize, group: usize) -> Format {
    let kind = name.strip_suffix(".weight");
    let (layer, kind) = match kind.and_then(|kind| kind.strip_prefix("blk.")?.split_once('.')) {
        Some((layer, kind)) => (layer.parse().unwrap_or(0), Some(kind)),
        None => (0, kind),
    };
    match kind {
        Some(kind) if tensor.shape.len() > 1 && !kind.ends_with("_norm") => {
            level.format(kind, Place { layer, layers, group }, tensor.shape.row_len())
        }
        _ => tensor.format,
    }
}

/// Writes `input` at another level to `output`, which appears whole or not at all. Metadata is kept, save the level's
/// number. Takes a few MiB of memory for each thread.
pub fn quantize(input: &Gguf, output: &Path, options: &Quantize) -> Result<(), QuantizeError> {
    refuse(input.paths(), output, options.force)?;
    let mut tensors = Vec::new();
    for (name, format) in plan(input, options.level)? {
        let format = (options.choose)(&name).unwrap_or(format);
        tensors.push((input.require_tensor(&name)?, format));
    }
    let mut builder = GgufBuilder::new();
    builder.copy_metadata(input);
    builder.set("general.file_type", options.level.file_type());
    builder.set("general.quantization_version", 2u32);
    write(builder, &tensors, output, options)
}

/// Writes tensors in the given formats, with the metadata of `builder`.
pub(crate) fn write(
    mut builder: GgufBuilder,
    tensors: &[(Tensor, Format)],
    output: &Path,
    options: &Quantize,
) -> Result<(), QuantizeError> {
    let mut total = 0;
    for (tensor, format) in tensors {
        let row_len = tensor.shape.row_len();
        if format.row_bytes(row_len).is_none() {
            let (tensor, format, block) = (tensor.name.clone(), *format, format.block_len());
            return Err(QuantizeError::Rows { tensor, row_len, format, block });
        }
        if *format != tensor.format && !format.can_quantize() {
            return Err(QuantizeError::Unwritable(*format));
        }
        total += tensor.data.len() as u64;
        builder.add_tensor(&tensor.name, &tensor.shape, *format)?;
    }
    let io = |source| QuantizeError::Io { path: output.to_owned(), source };
    let fail = |error| match error {
        GgufWriteError::Io(source) => io(source),
        error => error.into(),
    };
    let mut writer = builder.begin(AtomicFile::create(output).map_err(io)?).map_err(fail)?;
    let mut done = 0;
    let mut pieces: Vec<Piece> = (0..options.threads.max(1)).map(|_| Piece::default()).collect();
    for (tensor, format) in tensors {
        let name = &tensor.name;
        if *format == tensor.format {
            for data in tensor.data.chunks(PIECE) {
                writer.write(name, data).map_err(fail)?;
            }
            done += tensor.data.len() as u64;
            (options.progress)(done, total);
            continue;
        }
        let (row_len, rows) = (tensor.shape.row_len(), tensor.shape.rows());
        let rows_at_once = (PIECE / row_len).max(1);
        let mut next = 0;
        while next < rows {
            let mut used = 0;
            let results: Vec<_> = thread::scope(|scope| {
                let mut running = Vec::new();
                for piece in &mut pieces {
                    let first = next;
                    next = rows.min(next + rows_at_once);
                    if first == next {
                        break;
                    }
                    used += 1;
                    let rows = first..next;
                    running.push(scope.spawn(move || piece.fill(tensor, rows, *format)));
                }
                running
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
                    .collect()
            });
            for (result, piece) in results.into_iter().zip(&pieces[..used]) {
                result?;
                writer.write(name, &piece.bytes).map_err(fail)?;
                done += piece.read as u64;
            }
            (options.progress)(done, total);
        }
    }
    writer.finish().map_err(fail)?.commit().map_err(io)
}

/// Refuses outputs that would destroy something: an input, or another file unless `force` is set.
pub(crate) fn refuse<P: AsRef<Path>>(
    inputs: impl IntoIterator<Item = P>,
    output: &Path,
    force: bool,
) -> Result<(), QuantizeError> {
    let Ok(existing) = output.canonicalize() else { return Ok(()) };
    if inputs.into_iter().any(|input| input.as_ref().canonicalize().is_ok_and(|input| input == existing)) {
        return Err(QuantizeError::InPlace(output.to_owned()));
    }
    if force { Ok(()) } else { Err(QuantizeError::Exists(output.to_owned())) }
}

/// What one thread works on; kept from piece to piece.
#[derive(Default)]
struct Piece {
    values: Vec<f32>,
    bytes: Vec<u8>,
    /// Bytes of input.
    read: usize,
}

impl Piece {
    /// Quantizes some rows of a tensor.
    fn fill(&mut self, tensor: &Tensor, rows: std::ops::Range<usize>, format: Format) -> Result<(), QuantizeError> {
        let row_len = tensor.shape.row_len();
        let from = tensor.data.len() / tensor.shape.rows();
        let to = format.row_bytes(row_len).expect("checked when the plan was made");
        let data = &tensor.data[rows.start * from..rows.end * from];
        self.read = data.len();
        self.values.resize(rows.len() * row_len, 0.0);
        self.bytes.resize(rows.len() * to, 0);
        tensor.format.dequantize(data, &mut self.values);
        if let Some(at) = self.values.iter().position(|value| !value.is_finite()) {
            let (tensor, index, value) = (tensor.name.clone(), rows.start * row_len + at, self.values[at]);
            return Err(QuantizeError::NotFinite { tensor, index, value });
        }
        format.quantize(&self.values, &mut self.bytes);
        Ok(())
    }
}
