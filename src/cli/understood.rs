//! `docs/understood.md`: what of a model file is read, passed over and refused, from the tables by which the loader goes.

use qembed_models::{CONVERT_KEYS, JsonTreatment, KEYS, TENSORS, Treatment};

const INTRODUCTION: &str = "\
# What of a model file is understood

A model that differs from Qwen3-Embedding in a way that is not known here would give wrong vectors, so it is refused. This is the
allow-list by which files are loaded; `qembed-q inspect --keys` prints this page, `qembed-q inspect FILE` says what of a file is not
understood.

## Metadata

Judged are the keys that could change a vector: `general.type`, and all under `qwen3.`, `adapter.` and `tokenizer.ggml.`. One that is
not in this table is refused, unless its value says nothing: false, 0, an empty text or array, or a factor of 1. Keys of
other names are for people and other programs. `--allow NAME` loads a file in spite of a key or tensor.

A value may have any type that means the same: whole numbers of every type, 0 and 1 for a bool, an array in which every layer has the
same value.

| key | what is done | about |
|---|---|---|
";

const CONVERT: &str = "
## The JSON files of `convert`

By the same rule `convert` judges what stands beside the safetensors of a folder. Where keys that are not in the table are refused, this is
so unless their value says nothing.
";

/// The page.
pub(super) fn markdown() -> String {
    let keys = KEYS.iter().map(|key| {
        let done = match key.treatment {
            Treatment::Honoured => "read".into(),
            Treatment::Warned => "passed over, with a warning where it says otherwise".into(),
            Treatment::Ignored => "passed over".into(),
            Treatment::Unless { words, .. } => format!("refused, unless {words}"),
        };
        format!("| `{}` | {done} | {} |\n", key.name, key.note)
    });
    let files = CONVERT_KEYS.iter().map(|file| {
        let others = if file.others_refused { "refused" } else { "passed over" };
        let rows = file.keys.iter().map(|key| {
            let done = match key.treatment {
                JsonTreatment::Honoured => "read".into(),
                JsonTreatment::PassedOver => "passed over".into(),
                JsonTreatment::Only(words) => format!("refused, unless {words}"),
                JsonTreatment::Refused => "refused, unless it says nothing".into(),
            };
            format!("| `{}` | {done} | {} |\n", key.name, key.why)
        });
        let rows: String = rows.collect();
        format!(
            "\n### {}\n\nOther keys are {others}.\n\n| key | what is done | about |\n|---|---|---|\n{rows}",
            file.name
        )
    });
    let ignored: Vec<_> = TENSORS.iter().map(|name| format!("`{name}`")).collect();
    format!(
        "{INTRODUCTION}{}\n\
         ## Tensors\n\n\
         Read: `token_embd.weight`, `output_norm.weight` and, of each of the `block_count` layers, the eleven tensors of a Qwen3 \
         layer.\nPassed over, since only logits need them: {}.\nEvery other tensor is refused.\n{CONVERT}{}",
        keys.collect::<String>(),
        ignored.join(", "),
        files.collect::<String>()
    )
}
