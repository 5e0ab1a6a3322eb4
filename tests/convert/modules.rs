//! What stands around a model: modules of sentence-transformers, their settings, the tokenizer's, adapters; and files that
//! are not what their name says.

use super::*;

const TRANSFORMER: &str = "sentence_transformers.models.Transformer";
const POOLING: &str = "sentence_transformers.models.Pooling";
const NORMALIZE: &str = "sentence_transformers.models.Normalize";

fn write(path: PathBuf, json: &Value) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, json.to_string()).unwrap();
}

/// Writes a list of modules, given as type and path.
fn modules(folder: &Path, list: &[(&str, &str)]) {
    let entries = list.iter().enumerate();
    let entries: Vec<_> =
        entries.map(|(i, (kind, path))| json!({"idx": i, "name": i.to_string(), "path": path, "type": kind})).collect();
    write(folder.join("modules.json"), &json!(entries));
}

fn of_last_token() -> Value {
    json!({"word_embedding_dimension": 256, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": false,
        "pooling_mode_lasttoken": true, "include_prompt": true})
}

/// As sentence-transformers writes a folder around the model.
fn sentence_transformer(test: &str) -> PathBuf {
    let folder = good(test);
    modules(&folder, &[(TRANSFORMER, ""), (POOLING, "1_Pooling"), (NORMALIZE, "2_Normalize")]);
    write(folder.join("1_Pooling/config.json"), &of_last_token());
    write(folder.join("sentence_bert_config.json"), &json!({"max_seq_length": 2500, "do_lower_case": false}));
    let query = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:";
    let settings = json!({"__version__": {"sentence_transformers": "5.0.0"}, "prompts": {"query": query, "document": ""},
        "default_prompt_name": null, "similarity_fn_name": "cosine"});
    write(folder.join("config_sentence_transformers.json"), &settings);
    folder
}

#[test]
fn pooling_in_both_words() {
    let folder = sentence_transformer("pooling-words");
    let file = converted(&folder);
    assert!(file == converted(&good("pooling-plain/none")), "no modules say the same");
    let pooling = folder.join("1_Pooling/config.json");
    for good in [
        json!({"embedding_dimension": 256, "pooling_mode": "lasttoken", "include_prompt": true}),
        json!({"pooling_mode": ["lasttoken"], "include_prompt": false}),
        json!({"pooling_mode_lasttoken": true}),
    ] {
        write(pooling.clone(), &good);
        assert!(converted(&folder) == file, "{good}");
    }
    for (bad, why) in [
        (json!({"pooling_mode": "mean"}), "pooling_mode is \"mean\": only the last token can be pooled"),
        (json!({"pooling_mode": ["lasttoken", "mean"]}), "pooling_mode is [\"lasttoken\",\"mean\"]"),
        (json!({"pooling_mode": ["lasttoken", "lasttoken"]}), "pooling_mode is"),
        (json!({"pooling_mode_lasttoken": true, "pooling_mode_mean_tokens": true}), "pooling_mode_mean_tokens is true"),
        (json!({"pooling_mode": "lasttoken", "pooling_mode_cls_token": true}), "pooling_mode_cls_token is true"),
        (json!({"pooling_mode_lasttoken": false}), "pooling_mode_lasttoken is false"),
        (json!({"word_embedding_dimension": 256}), "pooling_mode_lasttoken is null"),
        (json!({"pooling_mode": "lasttoken", "new": "x"}), "new is \"x\": this key is not understood"),
    ] {
        write(pooling.clone(), &bad);
        refused(&folder, why);
    }
    // Without a list of modules it counts too.
    write(pooling, &json!({"pooling_mode": "cls"}));
    fs::remove_file(folder.join("modules.json")).unwrap();
    refused(&folder, "only the last token");
    converted_with(&folder, &["--allow", "pooling_mode"]);
}

#[test]
fn modules_that_cannot_be_run_are_refused_by_name() {
    let folder = sentence_transformer("modules");
    let file = converted(&folder);
    let list = |more: &[(&str, &str)]| {
        let plain = [(TRANSFORMER, ""), (POOLING, "1_Pooling"), (NORMALIZE, "2_Normalize")];
        modules(&folder, &[&plain, more].concat());
    };
    for (kind, name) in [
        ("sentence_transformers.models.Dense", "module Dense (3_More)"),
        ("sentence_transformers.base.modules.dense.Dense", "module Dense (3_More)"),
        ("sentence_transformers.models.LayerNorm", "module LayerNorm"),
        ("sentence_transformers.models.WeightedLayerPooling", "module WeightedLayerPooling"),
        ("custom_st.Normalize", "module Normalize (3_More) is \"custom_st.Normalize\""),
    ] {
        list(&[(kind, "3_More")]);
        refused(&folder, name);
        let allowed = kind.rsplit('.').next().unwrap();
        let (output, said) = converted_with(&folder, &["--allow", allowed]);
        assert!(said.contains("allowed: ") && fs::read(output).unwrap() == file, "{said}");
    }
    list(&[(POOLING, "1_Pooling")]);
    refused(&folder, "modules Transformer, Pooling, Normalize, Pooling: ");
    modules(&folder, &[(TRANSFORMER, "")]);
    refused(&folder, "modules Transformer: ");
    modules(&folder, &[(TRANSFORMER, ""), (POOLING, "../1_Pooling")]);
    refused(&folder, "leads out of the folder");
    modules(&folder, &[(TRANSFORMER, ""), (POOLING, "elsewhere")]);
    refused(&folder, "elsewhere");
    list(&[]);
    change(&folder.join("modules.json"), |json| json[0]["kwargs"] = json!(["task"]));
    refused(&folder, "kwargs is [\"task\"]");
    list(&[]);
    write(folder.join("2_Normalize/config.json"), &json!({"module_input_name": "token_embeddings"}));
    refused(&folder, "module_input_name is \"token_embeddings\"");

    // Names of later versions, a module of no effect, and none that normalizes.
    fs::remove_file(folder.join("2_Normalize/config.json")).unwrap();
    for names in [
        &[
            ("sentence_transformers.base.modules.transformer.Transformer", ""),
            ("sentence_transformers.sentence_transformer.modules.pooling.Pooling", "1_Pooling"),
            ("sentence_transformers.base.modules.normalize.Normalize", "2_Normalize"),
        ][..],
        &[(TRANSFORMER, ""), (POOLING, "1_Pooling"), (NORMALIZE, "")],
        &[(TRANSFORMER, ""), (POOLING, "1_Pooling"), ("sentence_transformers.models.Dropout", "")],
    ] {
        modules(&folder, names);
        assert!(converted(&folder) == file);
    }
    change(&folder.join("config_sentence_transformers.json"), |json| json["similarity_fn_name"] = json!("dot"));
    refused_with(&folder, &[], "similarity_fn_name is \"dot\"");
}

/// The model in a folder of its own, and the pooling at another path.
#[test]
fn modules_say_where_they_are() {
    let folder = sentence_transformer("places");
    let file = converted(&folder);
    fs::create_dir(folder.join("0_Transformer")).unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors", "sentence_bert_config.json"] {
        fs::rename(folder.join(name), folder.join("0_Transformer").join(name)).unwrap();
    }
    fs::rename(folder.join("1_Pooling"), folder.join("last")).unwrap();
    modules(&folder, &[(TRANSFORMER, "0_Transformer"), (POOLING, "last"), (NORMALIZE, "")]);
    assert!(converted(&folder) == file);
    write(folder.join("last/config.json"), &json!({"pooling_mode": "max"}));
    refused(&folder, &format!("{}: pooling_mode is \"max\"", Path::new("last").join("config.json").display()));
}

#[test]
fn settings_that_change_vectors() {
    let folder = sentence_transformer("settings");
    let (settings, transformer) =
        (folder.join("config_sentence_transformers.json"), folder.join("sentence_bert_config.json"));
    for (path, key, value, why) in [
        (&settings, "default_prompt_name", json!("query"), "default_prompt_name is \"query\""),
        (&settings, "truncate_dim", json!(128), "truncate_dim is 128"),
        (&settings, "model_type", json!("CrossEncoder"), "model_type is \"CrossEncoder\""),
        (&settings, "new", json!(1), "new is 1"),
        (&transformer, "do_lower_case", json!(true), "do_lower_case is true"),
        (&transformer, "transformer_task", json!("text-generation"), "transformer_task is"),
        (&transformer, "modality_config", json!({"text": {"method": "get_text_features"}}), "text.method is"),
        (&transformer, "config_kwargs", json!({"is_causal": false}), "config_kwargs.is_causal is false"),
        (&transformer, "processing_kwargs", json!({"text": {"x": 1}}), "processing_kwargs is"),
        (&transformer, "model_args", json!(["x"]), "model_args is [\"x\"]: a group"),
        (&transformer, "max_seq_length", json!("long"), "max_seq_length is \"long\""),
        (&folder.join("tokenizer_config.json"), "add_prefix_space", json!(true), "add_prefix_space is true"),
        (&folder.join("tokenizer_config.json"), "do_lower_case", json!(true), "do_lower_case is true"),
        (&folder.join("tokenizer_config.json"), "add_bos_token", json!(true), "add_bos_token is true"),
        (
            &folder.join("tokenizer_config.json"),
            "added_tokens_decoder",
            json!({"280": {"content": "<new>"}}),
            "added_tokens_decoder.280 is {\"content\":\"<new>\"}",
        ),
    ] {
        let before = fs::read(path).ok();
        change(path, |json| json[key] = value);
        refused(&folder, why);
        match before {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }
    let file = converted(&folder);
    // As sentence-transformers 5.4 and tokenizers write it.
    let text = json!({"text": {"method": "forward", "method_output_name": "last_hidden_state"}});
    let later = json!({"transformer_task": "feature-extraction", "modality_config": text, "module_output_name": "token_embeddings",
        "model_args": {"torch_dtype": "bfloat16"}});
    write(transformer.clone(), &later);
    let end = json!({"content": "<|endoftext|>", "lstrip": false, "normalized": false, "special": true});
    let tokens = json!({"model_max_length": 1e30, "added_tokens_decoder": {}, "chat_template": "{{ x }}", "add_eos_token": false});
    write(folder.join("tokenizer_config.json"), &tokens);
    change(&folder.join("tokenizer_config.json"), |json| {
        let made = Gguf::open(folder.with_extension("gguf")).unwrap();
        let id = made.u32("tokenizer.ggml.eos_token_id").unwrap().unwrap();
        json["added_tokens_decoder"][id.to_string()] = end;
    });
    assert!(converted(&folder) == file);

    // Prompts are for the caller to give.
    change(&settings, |json| json["prompts"]["document"] = json!("passage: "));
    let (output, said) = converted_with(&folder, &[]);
    assert!(said.contains("prompts.document is \"passage: \"") && fs::read(output).unwrap() == file, "{said}");

    // What sentence-transformers would cut.
    let context = |more: &[&str]| {
        let (output, said) = converted_with(&folder, more);
        (Gguf::open(output).unwrap().u32("qwen3.context_length").unwrap().unwrap(), said)
    };
    change(&folder.join("tokenizer_config.json"), |json| json["model_max_length"] = json!(700));
    let (limit, said) = context(&[]);
    assert!(limit == 700 && said.contains("model_max_length is 700"), "{said}");
    change(&transformer, |json| json["max_seq_length"] = json!(512));
    let (limit, said) = context(&[]);
    assert!(limit == 512 && said.contains("max_seq_length is 512") && !said.contains("700"), "{said}");
    assert_eq!(context(&["--allow", "max_seq_length"]).0, 2500);
}

/// The instruction of `--query` is the one that needs no word.
#[test]
fn the_usual_prompt_is_that_of_queries() {
    let folder = sentence_transformer("usual");
    let usual = format!("Instruct: {}\nQuery:", qembed_q::DEFAULT_TASK);
    change(&folder.join("config_sentence_transformers.json"), |json| json["prompts"]["query"] = json!(usual));
    converted(&folder);
}

#[test]
fn what_the_tokenizer_puts_around_a_text() {
    let folder = good("template");
    let file = converted(&folder);
    let id = Gguf::open(folder.with_extension("gguf")).unwrap().u32("tokenizer.ggml.eos_token_id").unwrap().unwrap();
    let (text, end) =
        (json!({"Sequence": {"id": "A", "type_id": 0}}), json!({"SpecialToken": {"id": "end", "type_id": 0}}));
    let template = |single: &[&Value], id: u32| {
        let special = json!({"end": {"id": "end", "ids": [id], "tokens": ["x"]}});
        json!({"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": special})
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let sequence = |steps: &[&Value]| json!({"type": "Sequence", "processors": steps});
    let tokenizer = folder.join("tokenizer.json");
    let good = template(&[&text, &end], id);
    for processor in [&json!(null), &bytes, &good, &template(&[&text], id), &sequence(&[&bytes, &good]), &sequence(&[])]
    {
        change(&tokenizer, |json| json["post_processor"] = processor.clone());
        assert!(converted(&folder) == file, "{processor}");
    }
    for (processor, why) in [
        (template(&[&end, &text], id), "post_processor makes <|endoftext|> + the text of a text"),
        (template(&[&text, &end, &end], id), "the text + <|endoftext|> + <|endoftext|>"),
        (template(&[&text, &end], 3), "post_processor makes the text + "),
        (template(&[&text, &end], 1000), "the text + 1000"),
        (sequence(&[&good, &good]), "the text + <|endoftext|> + <|endoftext|>"),
        (json!({"type": "RobertaProcessing"}), "RobertaProcessing"),
    ] {
        change(&tokenizer, |json| json["post_processor"] = processor);
        refused(&folder, why);
    }
    converted_with(&folder, &["--allow", "post_processor"]);
}

#[test]
fn adapters_are_refused() {
    for name in ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"] {
        let folder = good("adapter");
        fs::write(folder.join(name), "{}").unwrap();
        refused(&folder, &format!("{name}: there is an adapter, which changes the weights: merge it"));
        let (_, said) = converted_with(&folder, &["--allow", name]);
        assert!(said.contains("allowed: "), "{said}");
    }
    let folder = scratch("adapter-alone").join("folder");
    write(folder.join("adapter_config.json"), &json!({"base_model_name_or_path": "Qwen/Qwen3-Embedding-0.6B"}));
    fs::write(folder.join("adapter_model.safetensors"), "").unwrap();
    refused(&folder, "the folder has only an adapter: merge it into Qwen/Qwen3-Embedding-0.6B first");
    fs::remove_file(folder.join("adapter_config.json")).unwrap();
    refused(&folder, "the folder has only an adapter: merge it into its base model first");
}

/// Every JSON file that is read.
fn json_files(folder: &Path) -> Vec<PathBuf> {
    write(folder.join("tokenizer_config.json"), &json!({"add_bos_token": false}));
    write(folder.join("2_Normalize/config.json"), &json!({}));
    let names = ["config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json", "2_Normalize/config.json"];
    let more = ["sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer_config.json"];
    names.iter().chain(&more).map(|name| folder.join(name)).collect()
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_file() {
    let folder = sentence_transformer("mark");
    let file = converted(&folder);
    let index = json!({"weight_map": {"x": "model.safetensors"}});
    write(folder.join("model.safetensors.index.json"), &index);
    let mut files = json_files(&folder);
    files.push(folder.join("model.safetensors.index.json"));
    for path in &files {
        let marked = ["\u{feff}".as_bytes(), &fs::read(path).unwrap()].concat();
        fs::write(path, marked).unwrap();
    }
    assert!(converted(&folder) == file);
    for path in &files {
        let before = fs::read(path).unwrap();
        fs::write(path, [b"\xff\xfe", &before[..]].concat()).unwrap();
        let said = refused_with(&folder, &[], "UTF-16");
        assert!(said.contains(path.file_name().unwrap().to_str().unwrap()), "{said}");
        fs::write(path, before).unwrap();
    }
    let alone = scratch("mark-adapter").join("folder");
    fs::create_dir_all(&alone).unwrap();
    fs::write(alone.join("adapter_config.json"), "\u{feff}{\"base_model_name_or_path\": \"base\"}").unwrap();
    refused(&alone, "merge it into base first");
}

#[test]
fn pointers_of_git_lfs_are_named() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    let folder = sentence_transformer("lfs");
    let mut files = json_files(&folder);
    files.push(folder.join("model.safetensors"));
    for path in files {
        let before = fs::read(&path).unwrap();
        fs::write(&path, POINTER).unwrap();
        let said = refused_with(&folder, &[], "it is a Git LFS pointer, fetch the file itself with `git lfs pull`");
        assert!(said.contains(path.file_name().unwrap().to_str().unwrap()), "{said}");
        fs::write(&path, before).unwrap();
    }
    converted(&folder);
}
