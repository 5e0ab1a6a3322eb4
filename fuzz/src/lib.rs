//! What the fuzz targets share: inputs that are nearly right, and what is then asked of the program.
//!
//! Bytes alone seldom get past a header. Here the bytes of the fuzzer say which small model is written and what is done
//! to it: keys, types, shapes, data, bytes of the file. So every execution starts from something that works.
#![forbid(unsafe_code)]

mod folder;
mod gguf_file;
mod json;
mod model_file;
mod passes;
mod scratch;
mod walk;

pub use folder::Folder;
pub use json::{Document, JsonEdit, json_names, tokenizer_json};
pub use model_file::{ModelFile, VOCABULARY};
pub use passes::{Ask, pass};
pub use scratch::scratch;
pub use walk::walk;

/// What nothing is done to works; else the fuzzer would see nothing but refusals.
#[cfg(test)]
mod tests {
    use super::*;
    use arbitrary::{Arbitrary, Unstructured};
    use qembed_q::{Convert, ConvertNote, Embedder, Quantize, convert};

    fn untouched<T: Arbitrary<'static>>() -> T {
        T::arbitrary(&mut Unstructured::new(&[])).expect("nothing but defaults")
    }

    #[test]
    fn the_model_file_gives_vectors() {
        let path = scratch().join("untouched.gguf");
        std::fs::write(&path, untouched::<ModelFile>().bytes(VOCABULARY)).unwrap();
        let embedder = Embedder::open(&path).unwrap();
        assert_eq!(embedder.warnings().count(), 0);
        embedder.embed(&["text"], &Default::default()).unwrap();
    }

    #[test]
    fn the_folder_becomes_a_model_file() {
        let path = scratch().join("untouched-folder.gguf");
        let note = |note: &ConvertNote| panic!("{note}");
        let mut options = Convert::new(Quantize::new("Q8_0".parse().unwrap()));
        options.quantize.force = true;
        options.note = Some(&note);
        convert(&untouched::<Folder>().write(), &path, &options).unwrap();
        Embedder::open(&path).unwrap().embed(&["text"], &Default::default()).unwrap();
    }
}
