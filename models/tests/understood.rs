//! What is not understood of a file is refused by name, what changes nothing is not, whatever the type it comes in.

use proptest::prelude::*;
use qembed_kernels::cpu::CpuBackend;
use qembed_kernels::cpu::isa::Isa;
use qembed_kernels::formats::Format;
use qembed_models::gguf::{Element, Gguf, GgufBuilder};
use qembed_models::synth::{Spec, write};
use qembed_models::tokenizer::Tokenizer;
use qembed_models::{Batch, KEYS, ModelError, Qwen3, Treatment, is_judged};
use std::sync::LazyLock;

const SHAPE: &str = "tiny,layers=2,hidden=64,ffn=96,heads=4,kv_heads=2,head_dim=32,vocab=300,context=400";

static GOOD: LazyLock<Gguf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good.gguf");
    let (dims, level) = (SHAPE.parse().unwrap(), "F32".parse().unwrap());
    write(&Spec { dims, level, seed: 1, vocabulary: None }, &path).unwrap();
    Gguf::from_bytes(std::fs::read(&path).unwrap().into()).unwrap()
});

/// The good file with other metadata and one more tensor.
fn changed(change: impl FnOnce(&mut GgufBuilder), extra: Option<&str>) -> Gguf {
    let mut builder = GgufBuilder::new();
    builder.copy_metadata(&GOOD);
    change(&mut builder);
    for info in GOOD.tensors() {
        builder.add_tensor(&info.name, &info.shape, info.format.unwrap()).unwrap();
    }
    extra.iter().for_each(|name| _ = builder.add_tensor(name, &[8, 2], Format::F32).unwrap());
    let mut writer = builder.begin(Vec::new()).unwrap();
    for info in GOOD.tensors() {
        writer.write_tensor(&info.name, &GOOD.require_tensor(&info.name).unwrap().data).unwrap();
    }
    extra.iter().for_each(|name| writer.write_tensor(name, &[1; 64]).unwrap());
    Gguf::from_bytes(writer.finish().unwrap().into()).unwrap()
}

/// The bits of a text's vector.
fn bits(gguf: &Gguf, allow: &[String]) -> Result<Vec<u32>, ModelError> {
    let model = Qwen3::load(gguf, CpuBackend::new(Isa::select(None).unwrap(), 1), allow)?;
    let tokens = Tokenizer::from_gguf(gguf).unwrap().encode_for_embedding("some text").unwrap();
    Ok(model.forward(&Batch::new(&[tokens]))?.iter().map(|x| x.to_bits()).collect())
}

/// Refused for this key or tensor alone, and the same as the good file once that is allowed.
fn refused(gguf: &Gguf, name: &str) -> Result<(), TestCaseError> {
    let Err(ModelError::NotUnderstood(items)) = bits(gguf, &[]) else {
        return Err(TestCaseError::fail(format!("{name} is not refused")));
    };
    prop_assert_eq!(items.iter().map(|item| &item.name[..]).collect::<Vec<_>>(), [name]);
    let said = ModelError::NotUnderstood(items).to_string();
    prop_assert!(said.contains(name), "{}", said);
    prop_assert!(bits(gguf, &["another".into()]).is_err());
    same(gguf, &[name.to_owned()])
}

fn same(gguf: &Gguf, allow: &[String]) -> Result<(), TestCaseError> {
    let found = bits(gguf, allow).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(found, bits(&GOOD, &[]).unwrap());
    Ok(())
}

/// A value of some type.
#[derive(Clone, Debug)]
enum Any {
    Bool(bool),
    Unsigned(u32),
    Signed(i64),
    Float(f32),
    Text(String),
    Floats(Vec<f32>),
    Texts(Vec<String>),
}

impl Any {
    fn set(self, builder: &mut GgufBuilder, key: &str) {
        _ = match self {
            Any::Bool(value) => builder.set(key, value),
            Any::Unsigned(value) => builder.set(key, value),
            Any::Signed(value) => builder.set(key, value),
            Any::Float(value) => builder.set(key, value),
            Any::Text(value) => builder.set(key, value),
            Any::Floats(value) => builder.set(key, value),
            Any::Texts(value) => builder.set(key, value),
        };
    }
}

/// Values that say something, also as a factor.
fn something() -> impl Strategy<Value = Any> {
    prop_oneof![
        Just(Any::Bool(true)),
        (2u32..).prop_map(Any::Unsigned),
        (i64::MIN..0).prop_map(Any::Signed),
        (1.5f32..1e30).prop_map(Any::Float),
        Just(Any::Float(f32::NAN)),
        "[a-z]{1,9}".prop_map(Any::Text),
        prop::collection::vec(-2f32..-1.0, 1..9).prop_map(Any::Floats),
        prop::collection::vec("[a-z]{1,9}", 1..9).prop_map(Any::Texts),
    ]
}

fn nothing() -> impl Strategy<Value = Any> {
    prop_oneof![
        Just(Any::Bool(false)),
        Just(Any::Unsigned(0)),
        Just(Any::Signed(0)),
        Just(Any::Float(-0.0)),
        Just(Any::Text(String::new())),
        (0usize..9).prop_map(|n| Any::Floats(vec![0.0; n])),
        (0usize..9).prop_map(|n| Any::Texts(vec![String::new(); n])),
    ]
}

/// A name in a judged namespace that is not on the list.
fn unknown() -> impl Strategy<Value = String> {
    (prop::sample::select(vec!["qwen3", "adapter", "tokenizer.ggml"]), "[a-z0-9_]{1,12}(\\.[a-z0-9_]{1,12}){0,2}")
        .prop_map(|(namespace, name)| format!("{namespace}.{name}"))
        .prop_filter("is on the list", |name| KEYS.iter().all(|key| key.name != name))
}

fn one_of(matching: fn(&Treatment) -> bool) -> impl Strategy<Value = String> {
    let names: Vec<_> = KEYS.iter().filter(|key| matching(&key.treatment)).map(|key| key.name).collect();
    assert!(!names.is_empty());
    (prop::sample::select(names), "[a-z]{1,8}").prop_map(|(name, rest)| name.replace('*', &rest))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn an_unknown_key_is_refused(key in unknown(), value in something()) {
        refused(&changed(|builder| value.set(builder, &key), None), &key)?;
    }

    #[test]
    fn an_unknown_key_that_says_nothing_is_not(key in unknown(), value in nothing()) {
        same(&changed(|builder| value.set(builder, &key), None), &[])?;
    }

    #[test]
    fn keys_that_change_nothing_may_say_anything(
        key in one_of(|treatment| matches!(treatment, Treatment::Ignored)), value in something(),
    ) {
        same(&changed(|builder| value.set(builder, &key), None), &[])?;
    }

    #[test]
    fn other_namespaces_may_say_anything(
        key in "[a-z0-9_]{1,12}\\.[a-z0-9_.]{1,12}", value in something(),
    ) {
        prop_assume!(!is_judged(&key) && GOOD.get(&key).is_none() && key != "general.alignment");
        same(&changed(|builder| value.set(builder, &key), None), &[])?;
    }

    #[test]
    fn an_unknown_tensor_is_refused(
        name in prop_oneof!["[a-z0-9_]{1,12}(\\.[a-z0-9_]{1,12}){0,3}", "blk\\.[0-9]{1,3}\\.[a-z_]{1,12}\\.(weight|bias|scale)"],
    ) {
        prop_assume!(GOOD.tensor_info(&name).is_none() && !["output.weight", "output.bias"].contains(&&name[..]));
        refused(&changed(|_| (), Some(&name)), &name)?;
    }
}

#[track_caller]
fn check<T: Element>(key: &str, value: T, refused_with: Option<&str>) {
    let gguf = changed(|builder| _ = builder.set(key, value), None);
    let Some(words) = refused_with else { return same(&gguf, &[]).unwrap() };
    refused(&gguf, key).unwrap();
    let said = bits(&gguf, &[]).unwrap_err().to_string();
    assert!(said.contains(words), "{said}");
}

#[test]
fn values_that_change_nothing_and_values_that_do() {
    let (rope, window) = (Some("scaled rotary"), Some("window"));
    check("general.type", "model", None);
    check("general.type", "", None);
    check("general.type", "adapter", Some("merge it"));
    check("general.type", "mmproj", Some("only whole models"));
    check("adapter.type", "lora", Some("merge it"));
    check("adapter.lora.alpha", 16f32, Some("merge it"));
    let causal = "qwen3.attention.causal";
    check(causal, true, None);
    check(causal, 1u8, None);
    check(causal, false, Some("both directions"));
    check(causal, 0u32, Some("both directions"));
    let scale = "qwen3.attention.scale";
    check(scale, 0f32, None);
    check(scale, 1.0 / 32f32.sqrt(), None);
    check(scale, 1f32, Some("usual scale"));
    check("qwen3.attention.sliding_window", 0u32, None);
    check("qwen3.attention.sliding_window", 400u32, None);
    check("qwen3.attention.sliding_window", 399u32, window);
    check("qwen3.attention.sliding_window_pattern", vec![false, false], None);
    check("qwen3.attention.sliding_window_pattern", vec![false, true], window);
    check("qwen3.embedding_length_out", 64u32, None);
    check("qwen3.embedding_length_out", 32u32, Some("projection"));
    check("qwen3.dense_2_feat_out", 32u32, Some("projection"));
    check("qwen3.pooling_type", -1i32, None);
    check("qwen3.pooling_type", 3u8, None);
    for pooling in [0u32, 1, 2, 5] {
        check("qwen3.pooling_type", pooling, Some("the last token"));
    }
    check("qwen3.pooling_type", 4u32, Some("reranker"));
    check("qwen3.classifier.output_labels", vec!["yes", "no"], Some("reranker"));
    for key in
        ["scaling.factor", "scale_linear", "scaling.attn_factor", "scaling.alpha"].map(|k| format!("qwen3.rope.{k}"))
    {
        check(&key, 0f32, None);
        check(&key, 1f32, None);
        check(&key, 1u32, None);
        check(&key, 4f32, rope);
        check(&key, f64::NAN, rope);
    }
    let kind = "qwen3.rope.scaling.type";
    check(kind, "none", None);
    check(kind, "", None);
    for scaled in ["linear", "yarn", "longrope", "other"] {
        check(kind, scaled, rope);
    }
    check("qwen3.rope.dimension_sections", vec![0i32; 4], None);
    check("qwen3.rope.dimension_sections", vec![11i32, 11, 10, 0], Some("not known here"));
    for key in ["expert_count", "nextn_predict_layers", "decoder_block_count", "attention.shared_kv_layers"] {
        check(&format!("qwen3.{key}"), 0u32, None);
        check(&format!("qwen3.{key}"), 2u32, Some("not known here"));
    }
    check("qwen3.residual_scale", 1f32, None);
    check("qwen3.residual_scale", 0.5f32, Some("not known here"));
    check("qwen3.activation_sparsity_scale", 1f32, Some("not known here"));
    check("qwen3.expert_count", true, Some("not known here"));
    check("tokenizer.ggml.add_space_prefix", false, None);
    check("tokenizer.ggml.add_space_prefix", true, Some("not known here"));
    check("tokenizer.ggml.precompiled_charsmap", vec![1u8, 2], Some("not known here"));
}

/// Where a scale of 1 is said by name, a type that does nothing with it is none.
#[test]
fn scaling_by_one_is_no_scaling() {
    for kind in ["linear", "yarn"] {
        let scaled = |factor: f32| {
            changed(
                |builder| _ = builder.set("qwen3.rope.scaling.type", kind).set("qwen3.rope.scaling.factor", factor),
                None,
            )
        };
        same(&scaled(1.0), &[]).unwrap();
        let Err(ModelError::NotUnderstood(items)) = bits(&scaled(2.0), &[]) else { panic!("{kind}") };
        assert_eq!(items.len(), 2);
        let names: Vec<_> = items.iter().map(|item| item.name.clone()).collect();
        same(&scaled(2.0), &names).unwrap();
        assert!(bits(&scaled(2.0), &names[..1]).is_err());
    }
}

#[test]
fn tensors_say_what_they_are() {
    for (name, words) in [
        ("dense_2.weight", "projection"),
        ("rope_freqs.weight", "scaled rotary"),
        ("blk.0.attn_q.weight.lora_a", "merge it"),
        ("cls.output.weight", "reranker"),
        ("blk.0.attn_q.bias", "no biases"),
        ("blk.2.attn_q.weight", "not known here"),
        ("blk.00.attn_q.weight", "not known here"),
        ("blk.+0.attn_q.weight", "not known here"),
    ] {
        let gguf = changed(|_| (), Some(name));
        refused(&gguf, name).unwrap();
        let said = bits(&gguf, &[]).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
    for name in ["output.weight", "output.bias"] {
        same(&changed(|_| (), Some(name)), &[]).unwrap();
    }
}

/// Converters write the same number in different types.
#[test]
fn types_are_taken_generously() {
    check("qwen3.rope.freq_base", 1_000_000u32, None);
    check("qwen3.rope.freq_base", 1_000_000i64, None);
    check("qwen3.rope.freq_base", 1e6f64, None);
    check("qwen3.block_count", 2f32, None);
    check("qwen3.block_count", 2u64, None);
    check("qwen3.attention.head_count", vec![4u32, 4], None);
    check("qwen3.attention.head_count_kv", vec![2i32, 2], None);
    check("qwen3.feed_forward_length", vec![96u32, 96], None);
    check("qwen3.rope.freq_base", vec![1e6f32, 1e6], None);
    check("tokenizer.ggml.add_bos_token", 0u8, None);
    for uneven in [vec![4u32, 2], vec![]] {
        let gguf = changed(|builder| _ = builder.set("qwen3.attention.head_count", uneven), None);
        assert!(bits(&gguf, &[]).unwrap_err().to_string().contains("qwen3.attention.head_count"));
    }
    let halves = changed(|builder| _ = builder.set("qwen3.block_count", 2.5f32), None);
    assert!(bits(&halves, &[]).unwrap_err().to_string().contains("qwen3.block_count"));

    let types: Vec<i32> = GOOD.require_array("tokenizer.ggml.token_type").unwrap().iter_i32().unwrap().collect();
    check("tokenizer.ggml.token_type", types.iter().map(|n| *n as u32).collect::<Vec<_>>(), None);
    check("tokenizer.ggml.token_type", types.iter().map(|n| *n as u8).collect::<Vec<_>>(), None);
    let without_end = |change: &dyn Fn(&mut GgufBuilder)| {
        let gguf = changed(|builder| change(builder), None);
        same(&gguf, &[]).unwrap();
        Tokenizer::from_gguf(&gguf).unwrap().warnings().to_vec()
    };
    let eos = "tokenizer.ggml.eos_token_id";
    assert!(without_end(&|builder| _ = builder.set(eos, -1i32)).is_empty());
    assert!(without_end(&|builder| _ = builder.set(eos, u32::MAX)).is_empty());
    assert!(without_end(&|builder| _ = builder.set(eos, 256u64)).is_empty());
    assert_eq!(without_end(&|builder| _ = builder.set(eos, 258u16)).len(), 1);
}

/// The list has each key once, in namespaces that are judged.
#[test]
fn the_list_is_in_order() {
    for (i, key) in KEYS.iter().enumerate() {
        assert!(is_judged(key.name) && !key.note.is_empty(), "{}", key.name);
        assert!(KEYS[..i].iter().all(|other| other.name != key.name), "{}", key.name);
    }
}
