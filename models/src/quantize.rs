//! A GGUF file at another level: tensor by tensor, in pieces, on several threads.

use crate::gguf::{AtomicFile, Gguf, GgufBuilder, GgufError, GgufWriteError, Tensor};
use crate::level::{Level, Place};
use qembed_kernels::default_threads;
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
    #[error("{0} exists: choose another name, or allow that it is overwritten")]
    Exists(PathBuf),
    #[error("{0} is an input: a file cannot be replaced by what is made of it, choose another name")]
    InPlace(PathBuf),
    #[error(
        "tensor {tensor}: value {index} is {value}, and only finite weights can be quantized; is the file damaged?"
    )]
    NotFinite { tensor: String, index: usize, value: f32 },
    #[error("tensor {tensor}: value {index} is {value}, too large for {format}; {fitting} can hold it")]
    TooLarge { tensor: String, index: usize, value: f32, format: Format, fitting: String },
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
        io::ErrorKind::PermissionDenied if cfg!(windows) => {
            ": a file that a program has mapped cannot be replaced on Windows; if none has, look at its permissions"
        }
        _ => "",
    }
}

/// Chooses the format of the matrix with a name; `None` leaves it to the level.
pub type Choose<'a> = &'a dyn Fn(&str) -> Option<Format>;

/// What to write.
#[derive(Clone)]
#[non_exhaustive]
pub struct Quantize<'a> {
    /// The level to write.
    pub level: Level,
    /// Formats for matrices by name, before the level's own choice; `None` leaves it to the level. Vectors and norms are
    /// not asked for.
    pub choose: Option<Choose<'a>>,
    /// Threads to work with, at least 1; by default the number of physical cores.
    pub threads: usize,
    /// Whether an existing output may be replaced.
    pub force: bool,
    /// Called from time to time.
    pub progress: Option<&'a dyn Fn(ByteProgress)>,
}

impl<'a> Quantize<'a> {
    /// The level's own choice of formats, nothing replaced.
    pub fn new(level: Level) -> Self {
        Self { level, choose: None, threads: default_threads(), force: false, progress: None }
    }

    /// The format that the caller chooses for a matrix.
    pub(crate) fn chosen(&self, name: &str) -> Option<Format> {
        self.choose.and_then(|choose| choose(name))
    }
}

/// What is done of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
#[non_exhaustive]
pub struct ByteProgress {
    /// Bytes that were worked on.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

impl ByteProgress {
    /// `done` bytes of `total`.
    pub fn new(done: u64, total: u64) -> Self {
        Self { done, total }
    }
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
        let place = Place { layer: 0, layers, group, tied: gguf.tensor_info("output.weight").is_none() };
        formats.push((info.name.clone(), format_at(level, &info.name, &tensor, place)));
    }
    Ok(formats)
}

/// The format of one tensor at a level; its name says in which layer of the model at `place` it stands.
pub(crate) fn format_at(level: Level, name: &str, tensor: &Tensor, place: Place) -> Format {
    if !is_quantized(name, tensor) {
        return tensor.format;
    }
    let kind = name.strip_suffix(".weight").unwrap_or(name);
    let (layer, kind) = match kind.strip_prefix("blk.").and_then(|kind| kind.split_once('.')) {
        Some((layer, kind)) => (layer.parse().unwrap_or(0), kind),
        None => (0, kind),
    };
    level.format(kind, Place { layer, ..place }, tensor.shape.row_len())
}

/// Whether a level has a say in a tensor's format; engines expect the others as they are.
pub(crate) fn is_quantized(name: &str, tensor: &Tensor) -> bool {
    tensor.shape.len() > 1 && name.strip_suffix(".weight").is_some_and(|name| !name.ends_with("_norm"))
}

/// Writes `input` at another level to `output`, which appears whole or not at all. Metadata is kept, save the level's
/// number. Takes a few MiB of memory for each thread.
pub fn quantize(input: &Gguf, output: &Path, options: &Quantize) -> Result<(), QuantizeError> {
    refuse(input.paths(), output, options.force)?;
    let mut tensors = Vec::new();
    for (name, format) in plan(input, options.level)? {
        let tensor = input.require_tensor(&name)?;
        let chosen = options.chosen(&name).filter(|_| is_quantized(&name, &tensor));
        tensors.push((tensor, chosen.unwrap_or(format)));
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
    let tell = |done| {
        if let Some(progress) = options.progress {
            progress(ByteProgress { done, total });
        }
    };
    let mut pieces: Vec<Piece> = (0..options.threads.max(1)).map(|_| Piece::default()).collect();
    for (tensor, format) in tensors {
        let name = &tensor.name;
        if *format == tensor.format {
            for data in tensor.data.chunks(PIECE) {
                writer.write(name, data).map_err(fail)?;
            }
            done += tensor.data.len() as u64;
            tell(done);
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
            tell(done);
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
        if let Some(at) = format.too_large(&self.values) {
            let (name, index, value) = (tensor.name.clone(), rows.start * row_len + at, self.values[at]);
            let fitting = fitting(tensor);
            return Err(QuantizeError::TooLarge { tensor: name, index, value, format, fitting });
        }
        format.quantize(&self.values, &mut self.bytes);
        Ok(())
    }
}

/// Names of formats that hold every value of a tensor.
fn fitting(tensor: &Tensor) -> String {
    let (row_len, bytes) = (tensor.shape.row_len(), tensor.data.len() / tensor.shape.rows());
    let mut values = vec![0.0; row_len];
    let mut fits = |format: Format| {
        format.row_bytes(row_len).is_some()
            && tensor.data.chunks_exact(bytes).all(|row| {
                tensor.format.dequantize(row, &mut values);
                format.too_large(&values).is_none()
            })
    };
    let names: Vec<_> = [Format::BF16, Format::F32, Format::Q8_0]
        .into_iter()
        .filter(|format| fits(*format))
        .map(Format::name)
        .collect();
    match &names[..] {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const ROW: usize = 1024;
    /// Three pieces and a short one.
    const ROWS: usize = 3 * PIECE / ROW + 77;

    /// A file with one large matrix of `format` and a norm behind it.
    fn file(path: &Path, format: Format, values: &[f32]) -> Gguf {
        let mut builder = GgufBuilder::new();
        builder.set("general.architecture", "qwen3");
        builder.set("general.file_type", 0u32);
        builder.add_tensor("blk.0.ffn_up.weight", &[ROW, values.len() / ROW], format).unwrap();
        builder.add_tensor("output_norm.weight", &[ROW], Format::F32).unwrap();
        let mut writer = builder.begin(Vec::new()).unwrap();
        let mut bytes = vec![0; format.row_bytes(values.len()).unwrap()];
        match format.can_quantize() {
            true => format.quantize(values, &mut bytes),
            false => bytes.fill(1),
        }
        writer.write_tensor("blk.0.ffn_up.weight", &bytes).unwrap();
        writer.write_tensor("output_norm.weight", &[1; 4 * ROW]).unwrap();
        std::fs::write(path, writer.finish().unwrap()).unwrap();
        Gguf::open(path).unwrap()
    }

    fn values() -> Vec<f32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..ROW * ROWS).map(|_| next()).collect()
    }

    fn quantize_to(input: &Gguf, output: &Path, level: &str, threads: usize) -> Result<Vec<(u64, u64)>, QuantizeError> {
        let seen = RefCell::new(Vec::new());
        let progress = |progress: ByteProgress| seen.borrow_mut().push((progress.done, progress.total));
        let options = Quantize { threads, progress: Some(&progress), ..Quantize::new(level.parse().unwrap()) };
        quantize(input, output, &options)?;
        Ok(seen.into_inner())
    }

    /// A tensor that takes many pieces comes out as in one, on any number of threads, and progress reaches its end.
    #[test]
    fn pieces_make_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let values = values();
        let input = file(&folder.path().join("in.gguf"), Format::F32, &values);
        let mut whole = vec![0; Format::Q8_0.row_bytes(values.len()).unwrap()];
        Format::Q8_0.quantize(&values, &mut whole);
        for threads in [1, 2, 3, 8] {
            let path = folder.path().join(format!("{threads}.gguf"));
            let seen = quantize_to(&input, &path, "Q8_0", threads).unwrap();
            let output = Gguf::open(&path).unwrap();
            assert_eq!(output.u32("general.file_type").unwrap(), Some(7));
            assert_eq!(output.u32("general.quantization_version").unwrap(), Some(2));
            assert!(output.require_tensor("blk.0.ffn_up.weight").unwrap().data[..] == whole[..], "{threads} threads");
            assert!(output.require_tensor("output_norm.weight").unwrap().data[..] == [1; 4 * ROW]);
            let total = 4 * (ROW * ROWS + ROW) as u64;
            assert!(seen.iter().all(|(_, of)| *of == total) && seen.is_sorted());
            assert_eq!(seen.last(), Some(&(total, total)));
            assert!(seen.len() >= 2 + 3 / threads, "{seen:?}");
        }
    }

    #[test]
    fn what_is_not_finite_is_named_by_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (mut values, at) = (values(), 2 * PIECE + 5);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            values[at] = value;
            let input = file(&folder.path().join("in.gguf"), Format::F32, &values);
            let output = folder.path().join("out.gguf");
            match quantize_to(&input, &output, "Q4_K_M", 2) {
                Err(QuantizeError::NotFinite { tensor, index, .. }) => {
                    assert_eq!((tensor.as_str(), index), ("blk.0.ffn_up.weight", at));
                }
                other => panic!("{other:?}"),
            }
            assert!(!output.exists());
        }
    }

    /// `llama-quantize` gives the better format to what makes logits (`llama-quant.cpp`, `has_tied_embeddings`).
    #[test]
    fn a_token_matrix_beside_an_output_matrix_is_as_any_other() {
        let mut builder = GgufBuilder::new();
        builder.set("general.architecture", "qwen3");
        for name in ["token_embd.weight", "output.weight"] {
            builder.add_tensor(name, &[256, 1], Format::F16).unwrap();
        }
        let mut writer = builder.begin(Vec::new()).unwrap();
        for name in ["token_embd.weight", "output.weight"] {
            writer.write_tensor(name, &[0; 512]).unwrap();
        }
        let gguf = Gguf::from_bytes(writer.finish().unwrap().into()).unwrap();
        let formats: Vec<_> = plan(&gguf, "Q4_K_M".parse().unwrap()).unwrap().into_iter().map(|(_, f)| f).collect();
        assert_eq!(formats, [Format::Q4_K, Format::Q6_K]);
    }

    #[test]
    fn formats_that_cannot_be_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let input = file(&folder.path().join("in.gguf"), Format::IQ4_NL, &vec![0.0; ROW]);
        let to = |format: Format, name: &'static str| {
            let choose = |tensor: &str| (tensor == name).then_some(format);
            let options = Quantize { choose: Some(&choose), ..Quantize::new("Q8_0".parse().unwrap()) };
            let output = folder.path().join("out.gguf");
            let result = quantize(&input, &output, &options);
            if result.is_ok() {
                std::fs::remove_file(&output).unwrap();
            }
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
            result.map_err(|error| error.to_string())
        };
        to(Format::IQ4_NL, "blk.0.ffn_up.weight").expect("it is that already, and is copied");
        let said = to(Format::IQ4_XS, "blk.0.ffn_up.weight").unwrap_err();
        assert!(said.contains("IQ4_XS can be read but not written"), "{said}");
        to(Format::F16, "output_norm.weight").expect("norms are not for choice");
    }
}
