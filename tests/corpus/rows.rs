//! What becomes of rows: their vectors, and what is wrong with them.

use crate::common::{SHAPE, model};
use crate::{Corpus, embedder, floats};
use qembed_q::corpus::read::Source;
use qembed_q::corpus::write::OutputFormat;
use qembed_q::corpus::{Job, JobControl, JobError, Model};
use qembed_q::{EmbedOptions, LoadOptions, Prompt};
use serde_json::{Value, json};
use std::fs;

#[test]
fn vectors_are_those_of_the_library() {
    let corpus = Corpus::new("library");
    let rows = corpus.rows("in.jsonl", 40);
    corpus.embed(&[
        "--input",
        "in.jsonl",
        "--id",
        "id",
        "--keep",
        "all",
        "--text",
        "{title}: {text}",
        "--output",
        "out.jsonl",
    ]);
    let texts: Vec<_> = rows
        .iter()
        .map(|row| format!("{}: {}", row["title"].as_str().unwrap(), row["text"].as_str().unwrap()))
        .collect();
    let vectors = embedder().embed(&texts, &EmbedOptions::default()).unwrap();
    let lines = corpus.lines("out.jsonl");
    assert_eq!(lines.len(), rows.len());
    for ((line, row), vector) in lines.iter().zip(&rows).zip(vectors.iter()) {
        assert_eq!(floats(&line["embedding"]), vector, "to the last bit");
        assert_eq!((&line["id"], &line["title"], &line["n"]), (&row["id"], &row["title"], &row["n"]));
    }
    assert_eq!(corpus.names(), ["in.jsonl", "out.jsonl"], "nothing else is left");
}

#[test]
fn a_row_may_have_an_instruction_of_its_own() {
    let corpus = Corpus::new("instructions");
    fs::write(corpus.path("in.csv"), "text,task\nfirst,Find it\n\"second, with\na break\",\nthird,Find it\n").unwrap();
    corpus.embed(&["--input", "in.csv", "--instruction-field", "task", "--query", "--output", "out.jsonl"]);
    let embed = |text: &str, prompt: Prompt| {
        embedder().embed(&[text], &EmbedOptions::default().prompt(prompt)).unwrap()[0].to_vec()
    };
    let own = Prompt::Instruct("Find it".into());
    let expected = [embed("first", own.clone()), embed("second, with\na break", Prompt::Query), embed("third", own)];
    let found: Vec<_> = corpus.lines("out.jsonl").iter().map(|line| floats(&line["embedding"])).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_is_wrong_is_found_before_anything_is_computed_or_passed_over() {
    let corpus = Corpus::new("errors");
    let mut lines: Vec<String> = corpus.rows("in.jsonl", 30).iter().map(Value::to_string).collect();
    lines[20] = "{\"text\":".into();
    lines[22] = json!({ "id": "long", "text": "x".repeat(500) }).to_string();
    lines[23] = json!({ "id": "empty", "text": "" }).to_string();
    lines[24] = json!({ "id": "none" }).to_string();
    fs::write(corpus.path("in.jsonl"), lines.join("\n")).unwrap();
    let arguments = ["--input", "in.jsonl", "--id", "id", "--output", "out.jsonl"];
    let said = corpus.refused(1, &arguments);
    assert!(said.contains("in.jsonl, line 21: no valid JSON"), "{said}");
    assert_eq!(corpus.names(), ["in.jsonl"]);

    let said = corpus.refused(3, &[&arguments[..], &["--on-error", "skip"]].concat());
    assert!(
        said.ends_with("qembed-q: 4 rows could not be embedded and are named in out.jsonl.errors.jsonl\n"),
        "{said}"
    );
    let ids: Vec<_> = corpus.lines("out.jsonl").iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    let good = (0..30).filter(|i| ![20, 22, 23, 24].contains(i));
    assert_eq!(ids, good.map(|i| format!("r{i}")).collect::<Vec<_>>());
    let errors = corpus.lines("out.jsonl.errors.jsonl");
    let numbers: Vec<_> = errors.iter().map(|error| error["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [21, 23, 24, 25]);
    assert_eq!((&errors[1]["id"], &errors[1]["file"]), (&json!("long"), &json!("in.jsonl")));
    assert!(errors[1]["error"].as_str().unwrap().starts_with("the text has 501 tokens"), "{}", errors[1]);
    assert!(errors[2]["error"].as_str().unwrap().starts_with("the text is empty"), "{}", errors[2]);

    // Each by itself ends the work, and says what would help.
    for (line, what, help) in [
        (&lines[22], "in.jsonl, line 1: the text has 501 tokens", "--chunk tokens=512,overlap=64"),
        (&lines[23], "in.jsonl, line 1: the text is empty", "--empty end-token"),
        (&lines[24], "in.jsonl, line 1: there is no field \"text\"", "--on-error skip"),
    ] {
        fs::write(corpus.path("in.jsonl"), line).unwrap();
        let said = corpus.refused(1, &["--input", "in.jsonl", "--output", "other.jsonl"]);
        assert!(said.contains(what) && said.contains(help), "{said}");
    }
    assert!(!corpus.path("other.jsonl").exists() && !corpus.path("other.jsonl.journal").exists());
    assert!(corpus.refused(2, &["--input", "in.jsonl", "--output", "other"]).contains("--format"));
    let said = corpus.refused(1, &["--input", "nothing.jsonl", "--output", "other.npy"]);
    assert!(said.contains("nothing.jsonl"), "{said}");
    let said = corpus.refused(1, &["--input", "in.jsonl", "--output", "no/folder/other.npy"]);
    assert!(said.contains("no/folder: there is no such folder for the output: make it first"), "{said}");
}

#[test]
fn two_rows_with_one_id_are_named() {
    let corpus = Corpus::new("ids");
    fs::write(corpus.path("in.csv"), "id,text\na,one\nb,\"two\nlines\"\na,three\n").unwrap();
    let arguments = |output| ["--input", "in.csv", "--id", "id", "--output", output];
    corpus.embed(&arguments("out.npy"));
    let why = "in.csv, line 5: the id \"a\" is that of in.csv, line 2, too";
    let said = corpus.refused(1, &[&arguments("other.npy")[..], &["--unique-ids"]].concat());
    assert!(said.contains(why), "{said}");
    assert!(corpus.refused(1, &arguments("out.db")).contains(why), "a database has no two rows of one name");
    assert_eq!(corpus.names(), ["in.csv", "out.npy"]);
}

#[test]
fn a_request_has_the_dimensions_that_it_asks_for() {
    let corpus = Corpus::new("dimensions");
    let request = |id: usize, input: Value, dimensions: Value| {
        let body = json!({ "model": "m", "input": input, "dimensions": dimensions });
        json!({ "custom_id": format!("r{id}"), "method": "POST", "url": "/v1/embeddings", "body": body })
    };
    let asked = [json!(null), json!(32), json!(64), json!(48), json!(7), json!("48"), json!(-1)];
    let texts = |id: usize| (0..=id % 2).map(|i| format!("text {i} of {id}")).collect::<Vec<_>>();
    let requests =
        asked.iter().enumerate().map(|(id, asked)| format!("{}\n", request(id, json!(texts(id)), asked.clone())));
    let requests: Vec<_> = requests.collect();
    fs::write(corpus.path("in.jsonl"), requests.concat()).unwrap();
    let arguments = |output| ["--input", "in.jsonl", "--input-format", "openai-batch", "--output", output];
    fn run<'a>(more: &[&'a str]) -> Vec<&'a str> {
        let form = "openai-batch";
        [&["--input", "in.jsonl", "--input-format", form, "--output", "out.jsonl", "--format", form], more].concat()
    }
    let said = corpus.refused(1, &run(&[]));
    let range = "dimensions asked for: this model's vectors can be cut to 32 … 64";
    assert!(said.contains(&format!("in.jsonl, line 5: 7 {range}")) && said.contains("--on-error skip"), "{said}");
    for (more, all) in [(&["--dim", "48"][..], 48), (&[], 64)] {
        corpus.refused(3, &run(&[more, &["--on-error", "skip", "--force"]].concat()));
        let answers = corpus.lines("out.jsonl");
        for (id, answer) in answers.iter().enumerate().take(4) {
            let dimensions = asked[id].as_u64().map_or(all, |asked| asked as usize);
            let expected = embedder().embed(&texts(id), &EmbedOptions::default().dimensions(dimensions)).unwrap();
            let data = answer["response"]["body"]["data"].as_array().unwrap();
            let found: Vec<_> = data.iter().map(|data| floats(&data["embedding"])).collect();
            assert_eq!(found, expected.iter().map(<[f32]>::to_vec).collect::<Vec<_>>(), "to the last bit");
        }
        let why = |id: usize| answers[id]["error"]["message"].as_str().unwrap();
        assert_eq!((why(4), why(6)), (&*format!("7 {range}"), &*format!("0 {range}")));
        assert_eq!(why(5), "the field \"dimensions\" is a text, and cannot be a number of dimensions");
    }
    corpus.refused(3, &run(&["--on-error", "skip", "--force", "--dtype", "ubinary"]));
    let bytes =
        |id: usize| corpus.lines("out.jsonl")[id]["response"]["body"]["data"][0]["embedding"].as_array().unwrap().len();
    assert_eq!([0, 1, 3].map(bytes), [8, 4, 6]);

    // What has one number for all vectors says so.
    fs::write(corpus.path("in.jsonl"), requests[1..3].concat()).unwrap();
    let said = corpus.refused(1, &arguments("out.npy"));
    let why = "in.jsonl, line 1: 32 dimensions asked for, while all vectors of npy have 64: ask for 32 of all, or write openai-batch";
    assert!(said.contains(why) && said.contains("(--dim 32, --format openai-batch, or --on-error skip)"), "{said}");
    fs::write(corpus.path("in.jsonl"), &requests[1]).unwrap();
    corpus.embed(&[&arguments("out.npy")[..], &["--dim", "32"]].concat());
    assert_eq!(corpus.read("out.npy").len(), 128 + 2 * 32 * 4);
}

#[test]
fn vectors_stay_normalized() {
    let corpus = Corpus::new("normalized");
    corpus.rows("in.jsonl", 3);
    let files = Source::new([corpus.path("in.jsonl")]).files().unwrap();
    let model = Model::open(model(SHAPE, "F32"), &LoadOptions::default()).unwrap();
    let job = Job::new(files, corpus.path("out.jsonl"), OutputFormat::Jsonl);
    let raw = job.clone().embed(EmbedOptions::default().normalize(false));
    assert!(matches!(raw.run(&model, &JobControl::default()), Err(JobError::NotNormalized)));
    assert_eq!(job.run(&model, &JobControl::default()).unwrap().rows, 3);
}
