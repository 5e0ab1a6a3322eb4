//! An open model.

use crate::arrow;
use crate::error::{Failure, exception, not_found, raised};
use crate::watch::Watch;
use numpy::{PyArray2, PyArrayMethods, PyReadwriteArray2};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3_arrow::PyArray;
use pyo3_arrow::input::AnyArray;
use qembed_q::gguf::Gguf;
use qembed_q::hub::{HubSettings, ModelName, find};
use qembed_q::{Device, EmbedOptions, Embedder, Empty, Error, LoadOptions, Prompt, Truncate, builtin, level, sha256};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// An open model.
#[pyclass(frozen)]
pub(crate) struct Engine {
    embedder: Embedder,
    gguf: Gguf,
    digest: OnceLock<String>,
}

/// How a model is opened.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Opening {
    threads: Option<usize>,
    memory: Option<u64>,
    isa: Option<String>,
    device: String,
    tokenizer: Option<PathBuf>,
    allow: Vec<String>,
}

/// How texts are embedded.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Options {
    instruction: Option<String>,
    dim: Option<usize>,
    normalize: bool,
    truncate: String,
    empty: String,
}

impl TryFrom<Opening> for LoadOptions {
    type Error = PyErr;

    fn try_from(opening: Opening) -> PyResult<Self> {
        let device = match opening.device.as_str() {
            "cpu" => Device::Cpu,
            "metal" => Device::Metal,
            "auto" => Device::Auto,
            other => return Err(no_choice("device", other, "cpu, metal, auto")),
        };
        Ok(LoadOptions::default()
            .device(device)
            .threads(opening.threads)
            .isa(opening.isa)
            .memory_budget(opening.memory)
            .tokenizer(opening.tokenizer)
            .allow(opening.allow))
    }
}

impl TryFrom<Options> for EmbedOptions {
    type Error = PyErr;

    fn try_from(options: Options) -> PyResult<Self> {
        let truncate = match options.truncate.as_str() {
            "error" => None,
            "left" => Some(Truncate::Left),
            "right" => Some(Truncate::Right),
            other => return Err(no_choice("truncate", other, "error, left, right")),
        };
        let empty = match options.empty.as_str() {
            "error" => Empty::Refuse,
            "end" => Empty::EndToken,
            other => return Err(no_choice("empty", other, "error, end")),
        };
        let prompt = options.instruction.map_or(Prompt::Document, Prompt::Instruct);
        let embed = EmbedOptions::default().prompt(prompt).dimensions(options.dim).normalize(options.normalize);
        Ok(embed.truncate(truncate).empty(empty))
    }
}

fn no_choice(option: &str, given: &str, choices: &str) -> PyErr {
    exception("OptionError", format!("{option}={given:?}: there are {choices}"), None)
}

#[pymethods]
impl Engine {
    /// Opens a file, a name's file, or the built-in model.
    #[new]
    fn new(py: Python, model: Option<PathBuf>, opening: Opening) -> PyResult<Self> {
        let options = LoadOptions::try_from(opening)?;
        let path = model.map(|model| resolve(&model)).transpose()?;
        py.detach(|| {
            let gguf = match path {
                Some(path) => Gguf::open_with(path, options.access)?,
                None => builtin()?,
            };
            Ok(Self { embedder: Embedder::from_gguf(&gguf, &options)?, gguf, digest: OnceLock::new() })
        })
        .map_err(|error: Error| raised(&error))
    }

    /// Writes the vectors of the texts, [texts × dimensions] in float32, into `out`, or a new array.
    #[pyo3(signature = (texts, out, options, watch))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedStr>,
        out: Option<Bound<'py, PyArray2<f32>>>,
        options: Options,
        watch: Watch,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let options = EmbedOptions::try_from(options)?;
        let shape = [texts.len(), options.dimensions.unwrap_or(self.embedder.dimensions())];
        // Pages of zeros, which the system gives when they are written to: it costs nothing to be wrong about the texts.
        let out = out.unwrap_or_else(|| PyArray2::zeros(py, shape, false));
        let mut values: PyReadwriteArray2<f32> = out
            .try_readwrite()
            .map_err(|error| exception("OptionError", format!("out cannot be written to: {error}"), None))?;
        let found = values.as_array().shape().to_vec();
        if found != shape {
            return Err(exception("OptionError", format!("out has the shape {found:?}, the vectors {shape:?}"), None));
        }
        let flat = values.as_slice_mut().map_err(|_| {
            exception("OptionError", "out has gaps: it has to be contiguous, in C's order".into(), None)
        })?;
        py.detach(|| self.fill(&texts, flat, &options, &watch))?;
        drop(values);
        Ok(out)
    }

    /// The vectors of the strings of an Arrow array, as a fixed-size list.
    fn encode_arrow(&self, py: Python, texts: AnyArray, options: Options, watch: Watch) -> PyResult<PyArray> {
        let options = EmbedOptions::try_from(options)?;
        let chunks = texts.into_chunked_array()?;
        let texts = arrow::texts(chunks.chunks())?;
        let dimensions = options.dimensions.unwrap_or(self.embedder.dimensions());
        let vectors = py.detach(|| {
            let mut vectors = vec![0f32; texts.len() * dimensions];
            self.fill(&texts, &mut vectors, &options, &watch).map(|()| vectors)
        })?;
        Ok(arrow::vectors(vectors, dimensions)?)
    }

    /// The ids of a text's tokens, without instruction and end token.
    fn tokenize(&self, text: &str) -> PyResult<Vec<u32>> {
        let spans = self.embedder.token_spans(text).map_err(|error| raised(&error))?;
        Ok(spans.into_iter().map(|span| span.id).collect())
    }

    /// The text of tokens.
    fn detokenize(&self, ids: Vec<u32>) -> PyResult<String> {
        let text = self.embedder.decode(&ids, false);
        text.map_err(|error| exception("OptionError", error.to_string(), None))
    }

    /// How many tokens the model reads for each text, instruction and end token included.
    fn count(&self, py: Python, texts: Vec<PyBackedStr>, options: Options) -> PyResult<Vec<usize>> {
        let options = EmbedOptions::try_from(options)?;
        let tokens = py.detach(|| self.embedder.tokenize(&texts, &options)).map_err(|error| raised(&error))?;
        Ok(tokens.iter().map(|tokens| tokens.len()).collect())
    }

    /// SHA-256 of the file, all parts.
    #[getter]
    fn digest(&self, py: Python) -> &str {
        py.detach(|| self.digest.get_or_init(|| sha256(&self.gguf)))
    }

    #[getter]
    fn level(&self) -> String {
        level(&self.gguf)
    }

    #[getter]
    fn name(&self) -> String {
        self.gguf.str("general.name").ok().flatten().unwrap_or_default().to_owned()
    }

    #[getter]
    fn dim(&self) -> usize {
        self.embedder.dimensions()
    }

    #[getter]
    fn max_tokens(&self) -> usize {
        self.embedder.max_tokens()
    }

    #[getter]
    fn threads(&self) -> usize {
        self.embedder.threads()
    }

    #[getter]
    fn isa(&self) -> &'static str {
        self.embedder.isa()
    }

    #[getter]
    fn device(&self) -> &'static str {
        self.embedder.device()
    }

    #[getter]
    fn file_size(&self) -> u64 {
        self.embedder.file_size()
    }

    #[getter]
    fn warnings(&self) -> Vec<&str> {
        self.embedder.warnings().collect()
    }
}

impl Engine {
    /// The vectors of the texts, [texts × dimensions], each written where it belongs when it is computed.
    fn fill<T: AsRef<str>>(
        &self,
        texts: &[T],
        out: &mut [f32],
        options: &EmbedOptions,
        watch: &Watch,
    ) -> Result<(), Failure> {
        watch.run(|control| {
            // All of them before any pass: a text that cannot be embedded is found at once.
            let tokens = self.embedder.tokenize_with(texts, options, control)?;
            self.embedder.embed_tokens_unordered(tokens, options, control, |i, vector, _| {
                out[i * vector.len()..][..vector.len()].copy_from_slice(vector);
            })
        })
    }
}

/// Where a model file is. What exists is a path whatever else it may be; what looks like no name is one too.
fn resolve(model: &Path) -> PyResult<PathBuf> {
    let name = if model.exists() { None } else { model.to_str().and_then(ModelName::guess) };
    let Some(name) = name else { return Ok(model.into()) };
    let name = name.map_err(|error| exception("OptionError", error.to_string(), None))?;
    let found = HubSettings::from_env().and_then(|settings| find(&name, &settings));
    found.map_err(|error| not_found(&model.display().to_string(), &error))
}
