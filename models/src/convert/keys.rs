//! The list of what has been understood, file by file. A key is added here when its meaning is known, not when a file needs it.
//!
//! Sources: `PreTrainedConfig`, `Qwen3Config` and the generation parameters of transformers 4.57 and 5.24, the modules of
//! sentence-transformers 6.2, and what both wrote before.

use super::judge::JsonTreatment::{Honoured, Only, PassedOver, Refused};
use super::judge::{JsonKey, JsonTreatment, KnownFile};

/// All files whose keys are judged.
pub static CONVERT_KEYS: &[KnownFile] = &[
    CONFIG,
    ROPE,
    TOKENIZER_CONFIG,
    SENTENCE_BERT,
    MODALITY,
    ENGINE_ARGUMENTS,
    SENTENCE_TRANSFORMERS,
    MODULES,
    POOLING,
    NORMALIZE,
];

const fn key(name: &'static str, treatment: JsonTreatment, why: &'static str) -> JsonKey {
    JsonKey { name, treatment, why }
}

const PRECISION: &str = "precision of the weights, which they say themselves";
const TRAINING: &str = "of training only";
const GENERATION: &str = "of generating text only";
const OUTPUTS: &str = "what else a call returns";
const HEAD: &str = "of a classifier's head, which an embedding has none of";
const HOW: &str = "how the same is computed";
const TOKENS: &str = "tokens come from tokenizer.json";
const NOTE: &str = "a note";

/// `config.json`.
pub(super) const CONFIG: KnownFile = KnownFile {
    name: "config.json",
    others_refused: true,
    keys: &[
        key("model_type", Honoured, "\"qwen3\", the only one that is run"),
        key(
            "architectures",
            Only("\"Qwen3Model\", \"Qwen3ForCausalLM\", null"),
            "Qwen3Model and Qwen3ForCausalLM are run; ForSequenceClassification is a classifier or reranker",
        ),
        key("hidden_size", Honoured, "width of the vectors"),
        key("intermediate_size", Honoured, "width of the feed-forward layers"),
        key("num_hidden_layers", Honoured, "layers"),
        key("num_attention_heads", Honoured, "attention heads"),
        key("num_key_value_heads", Honoured, "heads of keys and values; absent: 32, null: as many as attention heads"),
        key("head_dim", Honoured, "width of a head; absent: 128"),
        key("max_position_embeddings", Honoured, "longest text in tokens; absent: 32768"),
        key("vocab_size", Honoured, "rows of the token matrix"),
        key("rms_norm_eps", Honoured, "epsilon of the norms; absent: 1e-6"),
        key("rope_theta", Honoured, "base of the rotary embedding; absent here and in rope_parameters: 10000"),
        key("rope_scaling", Honoured, "rotary embedding in the words of transformers 4: only the plain one"),
        key("rope_parameters", Honoured, "rotary embedding in the words of transformers 5: only the plain one"),
        key("partial_rotary_factor", Only("1, null"), "only rotary embeddings of whole heads are computed"),
        key("hidden_act", Only("\"silu\", \"swish\""), "the only activation computed is silu"),
        key("is_causal", Only("true"), "only causal attention is computed"),
        key("use_bidirectional_attention", Refused, "only causal attention is computed"),
        key("attention_bias", Refused, "biases are not supported"),
        key("use_sliding_window", Refused, "sliding windows are not supported"),
        key(
            "layer_types",
            Only("\"full_attention\", \"attention\", null"),
            "only layers of full attention are computed",
        ),
        key("per_layer_config", Refused, "layers that differ from each other are not supported"),
        key("is_encoder_decoder", Refused, "encoders with decoders are not supported"),
        key("add_cross_attention", Refused, "cross attention is not supported"),
        key("attention_multiplier", Refused, "another scale of attention is not supported"),
        key("quantization_config", Refused, "the weights are quantized: take the model before that"),
        key("quantization", Refused, "the weights are quantized: take the model before that"),
        key("auto_map", Refused, "the model is computed by code of its own, which is not run here"),
        key("sliding_window", PassedOver, "without use_sliding_window of no effect"),
        key("max_window_layers", PassedOver, "without use_sliding_window of no effect"),
        key("tie_word_embeddings", PassedOver, "of the output matrix, which an embedding does not use"),
        key("dtype", PassedOver, PRECISION),
        key("torch_dtype", PassedOver, PRECISION),
        key("use_bfloat16", PassedOver, PRECISION),
        key("initializer_range", PassedOver, TRAINING),
        key("attention_dropout", PassedOver, TRAINING),
        key("classifier_dropout", PassedOver, TRAINING),
        key("gradient_checkpointing", PassedOver, TRAINING),
        key("tf_legacy_loss", PassedOver, TRAINING),
        key("finetuning_task", PassedOver, TRAINING),
        key("pretraining_tp", PassedOver, HOW),
        key("chunk_size_feed_forward", PassedOver, HOW),
        key("attn_implementation", PassedOver, HOW),
        key("_attn_implementation", PassedOver, HOW),
        key("_attn_implementation_internal", PassedOver, HOW),
        key("_attn_implementation_autoset", PassedOver, HOW),
        key("experts_implementation", PassedOver, HOW),
        key("_experts_implementation", PassedOver, HOW),
        key("_experts_implementation_internal", PassedOver, HOW),
        key("torchscript", PassedOver, HOW),
        key("use_cache", PassedOver, GENERATION),
        key("is_decoder", PassedOver, GENERATION),
        key("tie_encoder_decoder", PassedOver, GENERATION),
        key("decoder_start_token_id", PassedOver, GENERATION),
        key("bos_token_id", PassedOver, TOKENS),
        key("eos_token_id", PassedOver, "every text ends with one <|endoftext|>"),
        key("pad_token_id", PassedOver, "nothing is padded"),
        key("sep_token_id", PassedOver, TOKENS),
        key("tokenizer_class", PassedOver, TOKENS),
        key("prefix", PassedOver, GENERATION),
        key("task_specific_params", PassedOver, GENERATION),
        key("output_hidden_states", PassedOver, OUTPUTS),
        key("output_attentions", PassedOver, OUTPUTS),
        key("return_dict", PassedOver, OUTPUTS),
        key("use_return_dict", PassedOver, OUTPUTS),
        key("tie_last_hidden_states", PassedOver, OUTPUTS),
        key("num_labels", PassedOver, HEAD),
        key("id2label", PassedOver, HEAD),
        key("label2id", PassedOver, HEAD),
        key("problem_type", PassedOver, HEAD),
        key("transformers_version", PassedOver, NOTE),
        key("_name_or_path", PassedOver, NOTE),
        key("name_or_path", PassedOver, NOTE),
        key("_commit_hash", PassedOver, NOTE),
        key("unsloth_version", PassedOver, NOTE),
        key("unsloth_fixed", PassedOver, NOTE),
        key("transformers.js_config", PassedOver, "of another engine"),
        key("is_matryoshka", PassedOver, "which lengths vectors may be cut to is up to the caller"),
        key("matryoshka_dimensions", PassedOver, "which lengths vectors may be cut to is up to the caller"),
        key("max_length", PassedOver, GENERATION),
        key("min_length", PassedOver, GENERATION),
        key("max_new_tokens", PassedOver, GENERATION),
        key("do_sample", PassedOver, GENERATION),
        key("early_stopping", PassedOver, GENERATION),
        key("num_beams", PassedOver, GENERATION),
        key("num_beam_groups", PassedOver, GENERATION),
        key("diversity_penalty", PassedOver, GENERATION),
        key("temperature", PassedOver, GENERATION),
        key("top_k", PassedOver, GENERATION),
        key("top_p", PassedOver, GENERATION),
        key("typical_p", PassedOver, GENERATION),
        key("repetition_penalty", PassedOver, GENERATION),
        key("encoder_repetition_penalty", PassedOver, GENERATION),
        key("length_penalty", PassedOver, GENERATION),
        key("exponential_decay_length_penalty", PassedOver, GENERATION),
        key("no_repeat_ngram_size", PassedOver, GENERATION),
        key("encoder_no_repeat_ngram_size", PassedOver, GENERATION),
        key("bad_words_ids", PassedOver, GENERATION),
        key("num_return_sequences", PassedOver, GENERATION),
        key("output_scores", PassedOver, GENERATION),
        key("return_dict_in_generate", PassedOver, GENERATION),
        key("forced_bos_token_id", PassedOver, GENERATION),
        key("forced_eos_token_id", PassedOver, GENERATION),
        key("remove_invalid_values", PassedOver, GENERATION),
        key("suppress_tokens", PassedOver, GENERATION),
        key("begin_suppress_tokens", PassedOver, GENERATION),
        key("epsilon_cutoff", PassedOver, GENERATION),
        key("eta_cutoff", PassedOver, GENERATION),
        key("num_assistant_tokens", PassedOver, GENERATION),
        key("num_assistant_tokens_schedule", PassedOver, GENERATION),
    ],
};

/// `rope_scaling` and `rope_parameters` of `config.json`, and groups for one type of layer in them.
pub(super) const ROPE: KnownFile = KnownFile {
    name: "config.json: rope_scaling, rope_parameters",
    others_refused: true,
    keys: &[
        key("rope_type", Only("\"default\", \"linear\", null"), SCALED),
        key("type", Only("\"default\", \"linear\", null"), SCALED),
        key("factor", Only("1, null"), SCALED),
        key("rope_theta", Honoured, "base of the rotary embedding"),
        key("full_attention", Honoured, "the same keys, for layers of full attention"),
        key("partial_rotary_factor", Only("1, null"), "only rotary embeddings of whole heads are computed"),
        key("original_max_position_embeddings", PassedOver, "of no effect where nothing is scaled"),
    ],
};

const SCALED: &str = "scaled rotary embeddings are not supported";

/// `tokenizer_config.json`: only what changes ids; tokenizer.json says the rest.
pub(super) const TOKENIZER_CONFIG: KnownFile = KnownFile {
    name: "tokenizer_config.json",
    others_refused: false,
    keys: &[
        key("add_prefix_space", Refused, "texts are tokenized without a space before them"),
        key("do_lower_case", Refused, "texts are tokenized in the case that they have"),
        key("strip_accents", Refused, "texts are tokenized with their accents"),
        key("add_bos_token", Refused, "texts are tokenized without a token before them"),
        key("add_eos_token", PassedOver, "every text ends with one <|endoftext|>"),
        key("added_tokens_decoder", Honoured, "every token of it is to stand in tokenizer.json"),
        key("model_max_length", Honoured, "longest text in tokens, where sentence-transformers takes it from here"),
    ],
};

/// `sentence_bert_config.json` of sentence-transformers.
pub(super) const SENTENCE_BERT: KnownFile = KnownFile {
    name: "sentence_bert_config.json",
    others_refused: true,
    keys: &[
        key("max_seq_length", Honoured, "longest text in tokens, when it is less than config.json says"),
        key("do_lower_case", Refused, "texts are tokenized in the case that they have"),
        key("transformer_task", Only("\"feature-extraction\", null"), "only vectors are computed"),
        key("module_output_name", Only("\"token_embeddings\", null"), "only the last layer's output is pooled"),
        key("modality_config", Honoured, "for text, only the last layer's output"),
        key("model_args", Honoured, "a group of settings"),
        key("model_kwargs", Honoured, "a group of settings"),
        key("config_args", Honoured, "a group of settings"),
        key("config_kwargs", Honoured, "a group of settings"),
        key("tokenizer_args", Honoured, "a group of settings"),
        key("processor_kwargs", Honoured, "a group of settings"),
        key("unpad_inputs", PassedOver, HOW),
        key("tokenizer_name_or_path", Refused, "the tokenizer is that of the folder"),
    ],
};

/// `modality_config.text` of `sentence_bert_config.json`.
pub(super) const MODALITY: KnownFile = KnownFile {
    name: "sentence_bert_config.json: modality_config.text",
    others_refused: true,
    keys: &[
        key("method", Only("\"forward\""), "only the last layer's output is pooled"),
        key("method_output_name", Only("\"last_hidden_state\""), "only the last layer's output is pooled"),
    ],
};

/// The groups of settings in `sentence_bert_config.json`.
pub(super) const ENGINE_ARGUMENTS: KnownFile = KnownFile {
    name: "sentence_bert_config.json: model_args, config_args, tokenizer_args",
    others_refused: true,
    keys: &[
        key("dtype", PassedOver, PRECISION),
        key("torch_dtype", PassedOver, PRECISION),
        key("attn_implementation", PassedOver, HOW),
        key("device_map", PassedOver, HOW),
        key("low_cpu_mem_usage", PassedOver, HOW),
        key("use_cache", PassedOver, GENERATION),
        key("use_fast", PassedOver, HOW),
        key("trust_remote_code", PassedOver, "auto_map says whether there is such code"),
        key("padding_side", PassedOver, "nothing is padded"),
        key("padding", PassedOver, "nothing is padded"),
        key("is_causal", Only("true"), "only causal attention is computed"),
    ],
};

/// `config_sentence_transformers.json`.
pub(super) const SENTENCE_TRANSFORMERS: KnownFile = KnownFile {
    name: "config_sentence_transformers.json",
    others_refused: true,
    keys: &[
        key("__version__", PassedOver, NOTE),
        key("requirements", PassedOver, NOTE),
        key("model_type", Only("\"SentenceTransformer\", null"), "only models that give one vector per text are run"),
        key("prompts", Honoured, "told, where they are not those that queries get here"),
        key("default_prompt_name", Honoured, "its prompt is to be empty: texts get none unless the caller gives it"),
        key("similarity_fn_name", Honoured, "of vectors that are not normalized, only the cosine is kept"),
        key("truncate_dim", Refused, "vectors are written whole: cut them when you embed"),
    ],
};

/// An entry of `modules.json`.
pub(super) const MODULES: KnownFile = KnownFile {
    name: "modules.json",
    others_refused: true,
    keys: &[
        key("type", Honoured, "Transformer, Pooling, and of no effect here: Normalize, Dropout"),
        key("path", Honoured, "where its files are"),
        key("name", PassedOver, NOTE),
        key("idx", PassedOver, "the order of the list is the order of the modules"),
        key("kwargs", Refused, "the module takes arguments from the caller"),
    ],
};

/// `config.json` of a pooling module.
pub(super) const POOLING: KnownFile = KnownFile {
    name: "1_Pooling/config.json",
    others_refused: true,
    keys: &[
        key("pooling_mode", Honoured, "\"lasttoken\", in the words of sentence-transformers 5.4"),
        key("pooling_mode_lasttoken", Honoured, "true, in the words of sentence-transformers before 5.4"),
        key("pooling_mode_cls_token", Refused, OTHER_POOLING),
        key("pooling_mode_mean_tokens", Refused, OTHER_POOLING),
        key("pooling_mode_max_tokens", Refused, OTHER_POOLING),
        key("pooling_mode_mean_sqrt_len_tokens", Refused, OTHER_POOLING),
        key("pooling_mode_weightedmean_tokens", Refused, OTHER_POOLING),
        key("word_embedding_dimension", PassedOver, "width of the vectors, which config.json says"),
        key("embedding_dimension", PassedOver, "width of the vectors, which config.json says"),
        key("include_prompt", PassedOver, "the last token is never one of the prompt"),
    ],
};

pub(super) const OTHER_POOLING: &str = "only the last token can be pooled";

/// `config.json` of a module that normalizes.
pub(super) const NORMALIZE: KnownFile = KnownFile {
    name: "2_Normalize/config.json",
    others_refused: true,
    keys: &[
        key("module_input_name", Only("\"sentence_embedding\", null"), "only the pooled vector is normalized"),
        key("module_output_name", Only("\"sentence_embedding\", null"), "only the pooled vector is normalized"),
    ],
};
