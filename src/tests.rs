//! Models for tests of what stands around one: a tiny file, and one of which only the shape is real.

use crate::embedder::Embedder;
use crate::error::Error;
use crate::options::LoadOptions;
use qembed_models::gguf::{Access, Gguf};
use qembed_models::synth::{Spec, write};
use qembed_models::{Config, ModelError, NotUnderstood, PassMemory, Runner, Text};
use std::path::Path;

/// What a pass does: gives the states of its texts, of so many values each; it may ask whether they are still wanted.
pub(crate) type Run = dyn Fn(&[Text], usize, &dyn Fn() -> bool) -> Result<Vec<f32>, ModelError> + Send + Sync;

struct Fake {
    config: Config,
    memory: PassMemory,
    run: Box<Run>,
}

impl Runner for Fake {
    fn config(&self) -> &Config {
        &self.config
    }
    fn vocabulary(&self) -> usize {
        300
    }
    fn allowed(&self) -> &[NotUnderstood] {
        &[]
    }
    fn device(&self) -> qembed_kernels::Device {
        qembed_kernels::Device::new("abacus", "beads", 1)
    }
    fn memory(&self) -> PassMemory {
        self.memory
    }
    fn shares_prefixes(&self) -> bool {
        true
    }
    fn run(&self, texts: &[Text], wanted: &dyn Fn() -> bool) -> Result<Vec<f32>, ModelError> {
        (self.run)(texts, self.config.hidden, wanted)
    }
}

/// Writes a model of one layer, 32 dimensions and random weights, whose tokens are bytes, of which a text has `context` at most.
pub(crate) fn write_model(path: &Path, context: usize) {
    let dims = format!("tiny,layers=1,hidden=32,ffn=32,heads=1,kv_heads=1,head_dim=16,vocab=300,context={context}");
    write(&Spec { dims: dims.parse().unwrap(), level: "F16".parse().unwrap(), seed: 1, vocabulary: None }, path)
        .unwrap();
}

/// An embedder of 32 dimensions whose passes are `run`; every byte of a text is a token, of which a text has `context` at most.
/// `memory` is told the size of the model's file.
pub(crate) fn embedder(
    context: usize,
    memory: impl FnOnce(u64) -> PassMemory,
    run: impl Fn(&[Text], usize, &dyn Fn() -> bool) -> Result<Vec<f32>, ModelError> + Send + Sync + 'static,
) -> Result<Embedder, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_model(&path, context);
    let gguf = Gguf::open_with(&path, Access::Read).unwrap();
    let (config, memory) = (Config::read(&gguf).unwrap(), memory(gguf.file_size()));
    Embedder::on(Box::new(Fake { config, memory, run: Box::new(run) }), &gguf, &LoadOptions::default())
}
