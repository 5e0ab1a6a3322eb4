//! `config.json`: what is honoured, what is passed over, and that nothing else gets through.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use qembed_q::{CONVERT_KEYS, Convert, ConvertNote, JsonTreatment, Quantize};
use std::cell::RefCell;

/// What the library says of a folder: the error, or the notes.
fn library(folder: &Path, allow: &[String]) -> Result<Vec<String>, String> {
    let notes = RefCell::new(Vec::new());
    let note = |note: &ConvertNote| notes.borrow_mut().push(note.to_string());
    let mut options = Convert::new(Quantize::new("F32".parse().unwrap()));
    options.quantize.force = true;
    options.allow = allow;
    options.note = Some(&note);
    let done = qembed_q::convert(folder, &folder.with_extension("gguf"), &options);
    done.map(|()| notes.take()).map_err(|error| error.to_string())
}

/// Who handles an error in a program finds what a parser or the system said, not its words alone.
#[test]
fn causes_keep_their_types() {
    let cause = |folder: &Path, is: fn(&(dyn std::error::Error + 'static)) -> bool| {
        let options = Convert::new(Quantize::new("F32".parse().unwrap()));
        let error = qembed_q::convert(folder, &folder.with_extension("gguf"), &options).unwrap_err();
        let mut causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
        assert!(causes.any(is), "{error:?}");
    };
    let folder = good("causes");
    fs::write(folder.join("model.safetensors"), [0; 9]).unwrap();
    cause(&folder, |cause| cause.is::<safetensors::SafeTensorError>());
    fs::write(folder.join("tokenizer.json"), "{").unwrap();
    cause(&folder, |cause| cause.is::<serde_json::Error>());
    fs::remove_file(folder.join("config.json")).unwrap();
    cause(&folder, |cause| cause.is::<std::io::Error>());
}

/// A folder, and its conversion.
fn folder_and_file(test: &str) -> (PathBuf, Vec<u8>) {
    let folder = good(test);
    let file = converted(&folder);
    (folder, file)
}

/// A folder whose config.json has a key more, which is removed again.
fn with_key<T>(folder: &Path, key: &str, value: Value, then: impl FnOnce() -> T) -> T {
    let path = folder.join("config.json");
    let before = fs::read(&path).unwrap();
    change(&path, |json| json[key] = value);
    let done = then();
    fs::write(&path, before).unwrap();
    done
}

#[test]
fn what_changes_vectors_is_refused_by_name() {
    let (folder, file) = folder_and_file("refused-keys");
    for (key, value, why) in [
        ("hidden_act", json!("gelu"), "hidden_act is \"gelu\""),
        ("is_causal", json!(false), "is_causal is false: only causal attention"),
        // Not true either, as transformers takes it.
        ("is_causal", json!(null), "is_causal is null"),
        ("is_causal", json!([]), "is_causal is []"),
        ("use_bidirectional_attention", json!(true), "use_bidirectional_attention is true"),
        ("architectures", json!(["Qwen3BidirectionalModel"]), "architectures is [\"Qwen3BidirectionalModel\"]"),
        ("architectures", json!(["Qwen3ForSequenceClassification"]), "is a classifier or reranker"),
        ("architectures", json!(["Qwen3Model", "Other"]), "architectures is"),
        ("attention_bias", json!(true), "attention_bias is true"),
        ("use_sliding_window", json!(true), "use_sliding_window is true"),
        ("layer_types", json!(["full_attention", "sliding_attention"]), "layer_types is"),
        ("layer_types", json!(["full_attention"]), "layer_types has 1 layers: num_hidden_layers is 2"),
        ("per_layer_config", json!({"1": {"num_attention_heads": 2}}), "per_layer_config is"),
        ("quantization_config", json!({"quant_method": "fp8"}), "quantization_config is {\"quant_method\":\"fp8\"}"),
        ("auto_map", json!({"AutoModel": "modeling.Model"}), "auto_map is"),
        ("num_experts", json!(128), "num_experts is 128: this key is not understood"),
        ("partial_rotary_factor", json!(0.5), "partial_rotary_factor is 0.5"),
        ("attention_multiplier", json!(1), "attention_multiplier is 1"),
        ("embedding_multiplier", json!(12.0), "embedding_multiplier is 12.0"),
        ("rope_scaling", json!({"type": "yarn", "factor": 4.0}), "rope_scaling.type is \"yarn\": scaled rotary"),
        ("rope_scaling", json!({"rope_type": "dynamic", "factor": 2}), "rope_scaling.factor is 2: scaled rotary"),
        ("rope_scaling", json!({"type": "linear", "factor": 2.0}), "rope_scaling.factor is 2.0: scaled rotary"),
        ("rope_scaling", json!({"type": "default", "mrope_section": [16, 24, 24]}), "rope_scaling.mrope_section is"),
        ("rope_scaling", json!("yarn"), "rope_scaling is \"yarn\": a group of keys is expected"),
        ("rope_parameters", json!({"rope_type": "yarn"}), "rope_parameters.rope_type is \"yarn\": scaled rotary"),
        (
            "rope_parameters",
            json!({"rope_type": "llama3", "rope_theta": 1e6}),
            "rope_type is \"llama3\": scaled rotary",
        ),
        ("rope_parameters", json!({"partial_rotary_factor": 0.25}), "rope_parameters.partial_rotary_factor is 0.25"),
        ("rope_parameters", json!({"full_attention": {"factor": 8}}), "rope_parameters.full_attention.factor is 8"),
        ("rope_parameters", json!({"sliding_attention": {"rope_theta": 1e4}}), "rope_parameters.sliding_attention is"),
        (
            "rope_parameters",
            json!({"rope_theta": 1e4}),
            "rope_parameters.rope_theta is 10000, but rope_theta is 1000000",
        ),
        ("rope_theta", json!(1e300), "rope_theta is 1e+300, a positive number is needed"),
        ("rope_theta", json!(null), "rope_theta is null"),
        ("rope_theta", json!("1000000"), "rope_theta is \"1000000\""),
        ("rms_norm_eps", json!(1e-60), "e-60, a positive number is needed"),
        ("head_dim", json!(true), "head_dim is true"),
        ("hidden_size", json!(256.5), "hidden_size is 256.5"),
        ("num_hidden_layers", json!(4_000_000_000u64), "num_hidden_layers is 4000000000, the limit is"),
        ("num_hidden_layers", json!(1e10), "num_hidden_layers is 10000000000.0"),
        ("vocab_size", json!(4_000_000_000u64), "config.json makes it [256, 4000000000]"),
    ] {
        let said = with_key(&folder, key, value, || library(&folder, &[]).unwrap_err());
        assert!(said.contains(why), "expected {why:?} in: {said}");
    }
    assert!(converted(&folder) == file);
}

/// All keys that Qwen3-Embedding has in its published config.json, and that transformers 5 writes of it.
#[test]
fn published_keys_are_known() {
    let (folder, file) = folder_and_file("published");
    for published in [
        json!({"architectures": ["Qwen3ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
            "hidden_act": "silu", "initializer_range": 0.02, "max_window_layers": 28, "rope_scaling": null,
            "rope_theta": 1_000_000, "sliding_window": null, "torch_dtype": "bfloat16", "transformers_version": "4.51.3",
            "use_cache": true, "use_sliding_window": false}),
        json!({"architectures": ["Qwen3Model"], "attention_dropout": 0.0, "bos_token_id": null, "dtype": "float32",
            "eos_token_id": null, "hidden_act": "silu", "initializer_range": 0.02, "max_window_layers": 28,
            "layer_types": ["full_attention", "full_attention"], "pad_token_id": null, "sliding_window": null,
            "rope_parameters": {"rope_theta": 1_000_000.0, "rope_type": "default"}, "transformers_version": "5.24.0",
            "use_cache": true, "use_sliding_window": false}),
    ] {
        let path = folder.join("config.json");
        let before = fs::read(&path).unwrap();
        change(&path, |json| json.as_object_mut().unwrap().extend(published.as_object().unwrap().clone()));
        assert!(converted(&folder) == file);
        fs::write(&path, before).unwrap();
    }
}

/// In both words for the rotary embedding, and in what older versions and other programs wrote.
#[test]
fn what_says_the_same_gives_the_same_file() {
    let (folder, file) = folder_and_file("same-keys");
    for changes in [
        json!({"hidden_act": "silu", "architectures": ["Qwen3Model"], "is_causal": true}),
        json!({"hidden_act": "swish", "architectures": ["Qwen3ForCausalLM"], "layer_types": null}),
        json!({"architectures": null, "layer_types": ["full_attention", "full_attention"], "sliding_window": 4096}),
        json!({"rope_theta": 1e6, "hidden_size": 256.0, "partial_rotary_factor": 1, "rope_scaling": {}}),
        json!({"rope_scaling": {"rope_type": "default", "rope_theta": 1_000_000.0}}),
        json!({"rope_scaling": {"type": "linear", "factor": 1.0}}),
        json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 1.0}}),
        json!({"rope_theta": null, "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}}}),
        json!({"rope_parameters": {"rope_theta": 1e6}, "rope_scaling": {"rope_theta": 1e6}}),
        // What is not known, but says nothing.
        json!({"a": null, "b": false, "c": 0, "d": 0.0, "e": "", "f": [], "g": {}, "logit_scale": 1, "x_factor": 1.0}),
        json!({"auto_map": {}, "quantization_config": null, "attention_bias": 0, "per_layer_config": {}}),
        json!({"rope_parameters": {"attention_factor": 1.0, "sliding_attention": null, "mrope_section": []}}),
    ] {
        let path = folder.join("config.json");
        let before = fs::read(&path).unwrap();
        change(&path, |json| json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone()));
        assert!(converted(&folder) == file, "{changes}");
        fs::write(&path, before).unwrap();
    }
}

/// The defaults of `Qwen3Config`.
#[test]
fn what_is_absent_has_the_default_of_transformers() {
    const SHAPE: &str = "tiny,layers=1,hidden=64,ffn=96,heads=32,kv_heads=32,head_dim=128,vocab=300,context=400";
    let folder = scratch("defaults").join("folder");
    folder_of(&Gguf::open(model(SHAPE, "F32")).unwrap(), &folder, None);
    change(&folder.join("config.json"), |json| {
        for key in
            ["rope_theta", "rope_scaling", "head_dim", "num_key_value_heads", "rms_norm_eps", "max_position_embeddings"]
        {
            json.as_object_mut().unwrap().remove(key);
        }
    });
    // Read, not mapped: Windows replaces no file that is mapped.
    let made = |folder: &Path| Gguf::open_with(converted_with(folder, &[]).0, Access::Read).unwrap();
    let found = made(&folder);
    for (key, value) in [("attention.key_length", 128), ("attention.head_count_kv", 32), ("context_length", 32768)] {
        assert_eq!(found.u32(&format!("qwen3.{key}")).unwrap(), Some(value), "{key}");
    }
    assert_eq!(found.require_f32("qwen3.rope.freq_base").unwrap(), 10_000.0);
    assert_eq!(found.require_f32("qwen3.attention.layer_norm_rms_epsilon").unwrap(), 1e-6);
    change(&folder.join("config.json"), |json| {
        json["head_dim"] = json!(null);
        json["num_key_value_heads"] = json!(null);
    });
    assert_eq!(made(&folder).u32("qwen3.attention.head_count_kv").unwrap(), Some(32));
}

/// All that is refused is said at once, and a person may take it upon himself.
#[test]
fn what_is_allowed_is_left_out_of_account_and_told() {
    let (folder, file) = folder_and_file("allowed");
    change(&folder.join("config.json"), |json| {
        json["hidden_act"] = json!("gelu");
        json["new_feature"] = json!({"deep": [1, 2]});
        json["rope_scaling"] = json!({"type": "yarn", "factor": 4});
    });
    let said = refused_with(&folder, &["--allow", "hidden_act"], "new_feature is {\"deep\":[1,2]}");
    assert!(
        said.contains("rope_scaling.type") && said.contains("rope_scaling.factor") && said.contains("(--allow NAME)")
    );
    assert!(said.contains("allowed: ") && !said.contains("error: hidden_act"), "{said}");

    let allow = ["--allow", "hidden_act", "--allow", "new_feature", "--allow", "rope_scaling", "--allow", "nothing"];
    let (output, said) = converted_with(&folder, &allow);
    assert!(fs::read(output).unwrap() == file);
    for line in ["hidden_act is \"gelu\"", "new_feature is", "rope_scaling.type is", "rope_scaling.factor is 4"] {
        assert_eq!(said.lines().filter(|said| said.contains("allowed: ") && said.contains(line)).count(), 1, "{said}");
    }
    assert!(said.contains("nothing had to be allowed by the name of nothing"), "{said}");
    // A name stands for itself and its group, not for what begins alike.
    let said = library(&folder, &["hidden".into(), "new_feature.deep".into(), "rope_scaling.type".into()]).unwrap_err();
    assert!(said.contains("hidden_act") && said.contains("new_feature") && said.contains("rope_scaling.factor"));
    assert!(!said.contains("rope_scaling.type"));
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() }
}

/// Values that say something.
fn telling() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(true)),
        (2..1_000_000i64).prop_map(|n| json!(n)),
        (-1_000_000..0i64).prop_map(|n| json!(n as f64 / 16.0)),
        "[a-z ]{1,12}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Value::from),
            prop::collection::hash_map("[a-z]{1,5}", inner, 1..3).prop_map(|map| json!(map)),
        ]
    })
}

fn known() -> impl Iterator<Item = (&'static str, JsonTreatment)> {
    CONVERT_KEYS
        .iter()
        .find(|file| file.name == "config.json")
        .unwrap()
        .keys
        .iter()
        .map(|key| (key.name, key.treatment))
}

#[test]
fn an_unknown_key_is_always_refused_by_name() {
    let folder = good("unknown");
    proptest!(config(200), |(key in "[a-zA-Z_][a-zA-Z0-9_.]{0,20}", value in telling())| {
        prop_assume!(known().all(|(name, _)| name != key));
        let said = with_key(&folder, &key, value.clone(), || library(&folder, &[])).unwrap_err();
        let shown: String = value.to_string().chars().take(100).collect();
        prop_assert!(said.contains(&format!("config.json: {key} is {shown}")), "{said}");
        let allowed = with_key(&folder, &key, value, || library(&folder, std::slice::from_ref(&key))).unwrap();
        prop_assert!(matches!(&allowed[..], [note] if note.contains(&key)), "{allowed:?}");
    });
}

#[test]
fn a_key_that_is_passed_over_changes_nothing() {
    let (folder, file) = folder_and_file("harmless");
    let harmless: Vec<_> =
        known().filter(|(_, treatment)| *treatment == JsonTreatment::PassedOver).map(|(name, _)| name).collect();
    assert!(harmless.len() > 50);
    proptest!(config(100), |(key in prop::sample::select(harmless.clone()), value in telling())| {
        let notes = with_key(&folder, key, value, || library(&folder, &[])).unwrap();
        prop_assert!(notes.is_empty(), "{notes:?}");
        prop_assert!(fs::read(folder.with_extension("gguf")).unwrap() == file);
    });
}

/// The list is data for people: each row says why, and none stands twice.
#[test]
fn the_list_is_in_order() {
    for file in CONVERT_KEYS {
        for (i, key) in file.keys.iter().enumerate() {
            assert!(!key.why.is_empty() && !key.name.is_empty());
            assert!(file.keys[..i].iter().all(|other| other.name != key.name), "{} {}", file.name, key.name);
            if let JsonTreatment::Only(values) = key.treatment {
                serde_json::from_str::<Value>(&format!("[{values}]")).unwrap();
            }
        }
    }
}
