//! The tensors of a folder, and the files that they are in.

use super::*;

/// Adds a tensor to a folder's only file.
fn add(folder: &Path, name: &str, dtype: Dtype, shape: &[usize], data: &[u8]) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut views: BTreeMap<_, _> = parsed.iter().map(|(name, view)| (name.to_owned(), view)).collect();
    views.insert(name.to_owned(), TensorView::new(dtype, shape.to_vec(), data).unwrap());
    let made = safetensors::serialize(&views, None).unwrap();
    fs::write(path, made).unwrap();
}

#[test]
fn tensors_of_no_use_are_passed_over() {
    let folder = good("no-use");
    let file = converted(&folder);
    for name in ["lm_head.weight", "rotary_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.inv_freq"] {
        add(&folder, name, Dtype::F64, &[1], &[1; 8]);
    }
    assert!(converted(&folder) == file);
}

#[test]
fn other_tensors_are_refused_by_name() {
    for (name, why) in [
        ("layers.0.self_attn.q_proj.bias", "tensor layers.0.self_attn.q_proj.bias: it is unknown"),
        ("model.layers.0.mlp.gate.weight", "tensor model.layers.0.mlp.gate.weight: it is unknown"),
        ("layers.2.input_layernorm.weight", "tensor layers.2.input_layernorm.weight: it is unknown"),
        ("score.weight", "tensor score.weight: it makes a classifier or reranker"),
        ("embeddings.weight", "tensor embeddings.weight: it is unknown"),
    ] {
        let folder = good("more");
        let file = converted(&folder);
        add(&folder, name, Dtype::I8, &[4], &[1; 4]);
        refused(&folder, why);
        let (output, said) = converted_with(&folder, &["--allow", name]);
        assert!(said.contains(&format!("allowed: {}", folder.join("model.safetensors").display())), "{said}");
        assert!(fs::read(output).unwrap() == file, "{name}");
    }
}

#[test]
fn files_that_are_not_clear_are_refused() {
    let folder = good("bin");
    fs::rename(folder.join("model.safetensors"), folder.join("pytorch_model.bin")).unwrap();
    refused(&folder, "the weights are there only as pytorch_model.bin");

    let folder = good("two");
    let index = folder.join("model.safetensors.index.json");
    fs::write(&index, "{\"weight_map\":{\"norm.weight\":\"other.safetensors\"}}").unwrap();
    refused(&folder, "it does not name model.safetensors, which is there too");
    fs::write(&index, "{\"weight_map\":{\"norm.weight\":\"model.safetensors\"}}").unwrap();
    converted(&folder);
    fs::write(&index, "{}").unwrap();
    refused(&folder, "there is no weight_map");
}

/// A weight that BF16 has and F16 has not.
#[test]
fn what_a_level_cannot_hold_is_named() {
    let sixteen = model(SHAPE_K, "F32");
    let gguf = Gguf::open(&sixteen).unwrap();
    let folder = scratch("large").join("folder");
    folder_of(&gguf, &folder, None);
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let data = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let at = data + (bytes.len() - data) / 2 / 4 * 4;
    bytes[at..at + 4].copy_from_slice(&1e6f32.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    refused(&folder, " is 1000000, too large for F16; BF16, F32 or Q8_0 can hold it");
    for level in ["BF16", "F32", "Q8_0"] {
        assert!(convert(&folder, &folder.with_extension("gguf"), &["--type", level, "--force"]).status.success());
    }
}
