//! `qembed-q inspect`: what stands in a GGUF file.

use super::Failure;
use super::model_file::ModelFile;
use super::table::{Style, grid, size};
use super::understood;
use clap::Args;
use qembed_models::not_understood;
use qembed_q::gguf::{Gguf, TensorInfo, Value};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// Elements of an array that are shown.
const SHOWN: usize = 4;
/// Characters of a string that are shown, unless for a program.
const WIDE: usize = 72;

#[derive(Args, Debug)]
pub(super) struct InspectArguments {
    /// Model file (any part of a split one), or the name of a pulled one
    #[arg(required_unless_present = "keys")]
    file: Option<ModelFile>,

    /// One JSON object, with all strings in full
    #[arg(long)]
    json: bool,

    /// Instead of a file, show which keys and tensors are read, passed over or refused, as Markdown
    #[arg(long, conflicts_with_all = ["file", "json"])]
    keys: bool,
}

/// Prints metadata, types and tensors.
pub(super) fn run(arguments: &InspectArguments) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let Some(file) = &arguments.file else {
        return Ok(write!(out, "{}", understood::markdown())?);
    };
    let gguf = Gguf::open(file.path()?).map_err(|error| Failure::Input(error.to_string()))?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &as_json(&gguf)).map_err(io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    // Of a type that cannot be read nothing says that so many values are in the file.
    let values = gguf.tensors().fold(0, |sum: usize, tensor| sum.saturating_add(tensor.shape.values()));
    let file = [
        ("file", gguf.path().display().to_string()),
        ("GGUF version", gguf.version().to_string()),
        ("size", format!("{} ({} bytes)", size(gguf.file_size()), gguf.file_size())),
        ("files", gguf.part_count().to_string()),
        ("parameters", format!("{:.1} million", values as f64 / 1e6)),
        ("bits a weight", format!("{:.2}", gguf.bits_per_value())),
    ];
    for (name, value) in file {
        writeln!(out, "{name:<14} {value}")?;
    }
    if let Some(path) = tokenizer_beside(&gguf) {
        writeln!(out, "{:<14} {} (not used unless --tokenizer names it)", "beside it", path.display())?;
    }
    for item in not_understood(&gguf) {
        writeln!(out, "{:<14} {item}", "not understood")?;
    }
    let metadata = gguf.metadata().map(|(key, value)| [key.to_owned(), kind(&value), shown(&value)]);
    writeln!(out, "\n{}", grid(Style::Plain, &["metadata", "type", "value"], metadata, &[]))?;
    let types = types(&gguf)
        .into_iter()
        .map(|(name, (count, values, bytes))| [name, count.to_string(), values.to_string(), size_of_tensors(bytes)]);
    writeln!(out, "\n{}", grid(Style::Plain, &["type", "tensors", "values", "size"], types, &[1, 2, 3]))?;
    let tensors = gguf.tensors().map(|tensor| {
        [tensor.name.clone(), type_name(tensor), tensor.shape.to_string(), size_of_tensors(tensor.bytes())]
    });
    writeln!(out, "\n{}", grid(Style::Plain, &["tensor", "type", "shape (row first)", "size"], tensors, &[3]))?;
    Ok(())
}

/// A `tokenizer.json` in the file's folder.
fn tokenizer_beside(gguf: &Gguf) -> Option<PathBuf> {
    Some(gguf.path().with_file_name("tokenizer.json")).filter(|path| path.is_file())
}

fn size_of_tensors(bytes: Option<usize>) -> String {
    bytes.map_or("?".into(), |bytes| size(bytes as u64))
}

fn type_name(tensor: &TensorInfo) -> String {
    tensor.type_name().map_or_else(|| format!("type {}", tensor.type_id), str::to_owned)
}

/// Of each type: tensors, values, and bytes if it can be read.
fn types(gguf: &Gguf) -> BTreeMap<String, (usize, usize, Option<usize>)> {
    let mut types = BTreeMap::new();
    for tensor in gguf.tensors() {
        let (tensors, values, bytes) = types.entry(type_name(tensor)).or_insert((0, 0usize, Some(0)));
        *tensors += 1;
        *values = values.saturating_add(tensor.shape.values());
        *bytes = bytes.zip(tensor.bytes()).map(|(sum, more)| sum + more);
    }
    types
}

fn as_json(gguf: &Gguf) -> serde_json::Value {
    let metadata: Map<_, _> = gguf.metadata().map(|(key, value)| (key.to_owned(), plain(&value))).collect();
    let tensors: Vec<_> = gguf
        .tensors()
        .map(|tensor| {
            json!({ "name": tensor.name, "type": type_name(tensor), "shape": &tensor.shape[..], "bytes": tensor.bytes() })
        })
        .collect();
    let types: Vec<_> = types(gguf)
        .into_iter()
        .map(|(name, (tensors, values, bytes))| json!({ "type": name, "tensors": tensors, "values": values, "bytes": bytes }))
        .collect();
    let not_understood: Vec<_> =
        not_understood(gguf).iter().map(|item| json!({ "name": item.name, "problem": item.to_string() })).collect();
    json!({
        "tokenizer_beside": tokenizer_beside(gguf), "not_understood": not_understood,
        "file": gguf.path(), "version": gguf.version(), "bytes": gguf.file_size(), "files": gguf.part_count(),
        "alignment": gguf.alignment(), "metadata": metadata, "types": types, "tensors": tensors,
    })
}

/// A value as JSON; an array as its type, length and first elements.
fn plain(value: &Value) -> serde_json::Value {
    match value {
        Value::Str(text) => json!(text),
        Value::BadStr(bytes) => json!(String::from_utf8_lossy(bytes)),
        Value::Bool(value) => json!(value),
        // Through its own digits: as an f64 it would show some that it does not have.
        Value::F32(value) => json!(value.to_string().parse().unwrap_or(f64::from(*value))),
        Value::F64(value) => json!(value),
        Value::Array(array) => {
            let first: Vec<_> = array.iter().take(SHOWN).filter_map(Result::ok).map(|value| plain(&value)).collect();
            json!({ "type": array.element_type().name(), "length": array.len(), "first": first })
        }
        Value::U8(n) => json!(n),
        Value::I8(n) => json!(n),
        Value::U16(n) => json!(n),
        Value::I16(n) => json!(n),
        Value::U32(n) => json!(n),
        Value::I32(n) => json!(n),
        Value::U64(n) => json!(n),
        Value::I64(n) => json!(n),
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Array(array) => format!("[{}; {}]", array.element_type(), array.len()),
        value => value.value_type().to_string(),
    }
}

/// A value on one line.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(array) => {
            let first: Vec<_> =
                array.iter().take(SHOWN).filter_map(Result::ok).map(|value| plain(&value).to_string()).collect();
            cut(&format!("{}{}", first.join(", "), if array.len() > SHOWN { ", …" } else { "" }))
        }
        value => match plain(value) {
            serde_json::Value::String(text) => cut(&text.escape_debug().to_string()),
            other => other.to_string(),
        },
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
