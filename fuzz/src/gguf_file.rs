//! A GGUF file in parts that need not be right, and data for its tensors.

use qembed_models::gguf::{Element, Gguf, Value, ValueType};
use qembed_q::Format;
use std::path::Path;
use std::sync::LazyLock;

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: Vec<u8>,
    pub(crate) kind: u32,
    pub(crate) value: Vec<u8>,
}

pub(crate) struct Tensor {
    pub(crate) name: Vec<u8>,
    pub(crate) dims: Vec<u64>,
    pub(crate) kind: u32,
    /// `None`: after the one before it.
    pub(crate) offset: Option<u64>,
    pub(crate) data: Vec<u8>,
}

/// The metadata of a file of random weights, which `examples/seeds.rs` writes.
pub(crate) static METADATA: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/model.gguf");
    let gguf = Gguf::open(&path).unwrap_or_else(|error| panic!("{error}; `scripts/fuzz.sh` makes it"));
    let entry = |(key, value): (&str, Value)| {
        let mut bytes = Vec::new();
        encode(&value, &mut bytes);
        Entry { key: key.into(), kind: value.value_type().id(), value: bytes }
    };
    gguf.metadata().map(entry).collect()
});

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::U32(x) => x.encode(out),
        Value::I32(x) => x.encode(out),
        Value::F32(x) => x.encode(out),
        Value::Bool(x) => x.encode(out),
        Value::Str(x) => x.encode(out),
        Value::Array(array) => {
            array.element_type().id().encode(out);
            (array.len() as u64).encode(out);
            array.iter().for_each(|value| encode(&value.expect("our own file"), out));
        }
        other => panic!("{other:?} in a file of ours"),
    }
}

/// Some weights in each format, repeated over the tensors.
static WEIGHTS: LazyLock<Vec<(Format, Vec<u8>)>> = LazyLock::new(|| {
    let mut state = 1u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let values: Vec<f32> = (0..2048).map(|_| 0.05 * next()).collect();
    let weights = |format: Format| {
        let mut bytes = vec![0; format.row_bytes(values.len()).expect("whole blocks")];
        match format.can_quantize() {
            true => format.quantize(&values, &mut bytes),
            // Any codes, under a scale of about 0.01: an f16 in the first two bytes of a block, or a power of two in the first.
            false => {
                bytes.iter_mut().zip(0u8..=255).for_each(|(byte, i)| *byte = i.wrapping_mul(37));
                let scale: &[u8] = if format == Format::MXFP4 { &[0x79] } else { &[0x1f, 0x21] };
                let blocks = bytes.chunks_exact_mut(format.block_bytes());
                blocks.for_each(|block| block[..scale.len()].copy_from_slice(scale));
            }
        }
        (format, bytes)
    };
    Format::ALL.iter().copied().map(weights).collect()
});

/// Weights of a tensor of `bytes` bytes.
pub(crate) fn weights(format: Format, bytes: usize) -> Vec<u8> {
    let (_, some) = WEIGHTS.iter().find(|(found, _)| *found == format).expect("every format");
    repeated(some, bytes)
}

/// So many bytes: the given ones over and over.
pub(crate) fn repeated(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut all = bytes.repeat(len.div_ceil(bytes.len()));
    all.truncate(len);
    all
}

/// The format of this id, and the bytes of a tensor of these dimensions; none of what has no format, no whole blocks, or is large.
pub(crate) fn data(kind: u32, dims: &[u64]) -> Option<(Format, usize)> {
    let format = Format::from_id(kind)?;
    let row = format.row_bytes(usize::try_from(*dims.first()?).ok()?)?;
    let bytes = dims[1..].iter().try_fold(row as u64, |bytes, dim| bytes.checked_mul(*dim))?;
    (bytes <= 1 << 20).then_some((format, bytes as usize))
}

pub(crate) fn put(entries: &mut Vec<Entry>, key: &[u8], kind: u32, value: &[u8]) {
    let entry = Entry { key: key.to_vec(), kind, value: value.to_vec() };
    match entries.iter_mut().find(|entry| entry.key == key) {
        Some(old) => *old = entry,
        None => entries.push(entry),
    }
}

pub(crate) fn write(
    version: u32,
    counts: (Option<u64>, Option<u64>),
    entries: &[Entry],
    tensors: &[Tensor],
) -> Vec<u8> {
    let alignment = entries.iter().find(|entry| entry.key == b"general.alignment" && entry.kind == ValueType::U32.id());
    let alignment = alignment.and_then(|entry| Some(u32::from_le_bytes(entry.value[..].try_into().ok()?)));
    let alignment = alignment.filter(|n| n.is_power_of_two() && *n <= 4096).unwrap_or(32) as usize;
    let mut out = b"GGUF".to_vec();
    version.encode(&mut out);
    counts.0.unwrap_or(tensors.len() as u64).encode(&mut out);
    counts.1.unwrap_or(entries.len() as u64).encode(&mut out);
    let string = |bytes: &[u8], out: &mut Vec<u8>| {
        (bytes.len() as u64).encode(out);
        out.extend_from_slice(bytes);
    };
    for entry in entries {
        string(&entry.key, &mut out);
        entry.kind.encode(&mut out);
        out.extend_from_slice(&entry.value);
    }
    let mut next = 0;
    for tensor in tensors {
        string(&tensor.name, &mut out);
        (tensor.dims.len() as u32).encode(&mut out);
        tensor.dims.iter().for_each(|dim| dim.encode(&mut out));
        tensor.kind.encode(&mut out);
        tensor.offset.unwrap_or(next as u64).encode(&mut out);
        next += tensor.data.len().next_multiple_of(alignment);
    }
    for tensor in tensors {
        out.resize(out.len().next_multiple_of(alignment), 0);
        out.extend_from_slice(&tensor.data);
    }
    out
}
