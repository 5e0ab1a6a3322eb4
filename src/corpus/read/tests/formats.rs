//! Rows of every format.

use super::{Folder, gzip, zstd};
use crate::corpus::read::{InputFormat, Keep, Source};

fn all(source: Source) -> Source {
    source.keep(Keep::All)
}

#[test]
fn a_line_is_a_text() {
    let (folder, source) = Folder::with("a.txt", "\u{feff}one\r\n\n 二 \nfour\n\n");
    let rows = ["0 [\"one\"]", "1 [\"\"]", "2 [\" 二 \"]", "3 [\"four\"]"];
    assert_eq!(folder.rows(&source), rows);
    assert_eq!(folder.rows(&all(source.clone())), rows, "a line has no other fields");
    let template = source.text("- {text}".parse().unwrap());
    assert_eq!(folder.rows(&template)[0], "0 [\"- one\"]");
}

#[test]
fn a_file_is_a_text() {
    let folder = Folder::new();
    folder.write("b.txt", "\u{feff}one\ntwo\n");
    folder.write("a.md.gz", gzip(b""));
    folder.write("c.csv", "text\n7\n");
    let source = Source::new([folder.0.path()]).whole_file(true);
    let rows = ["0 [\"\"]", "1 [\"one\\ntwo\\n\"]", "2 [\"7\"]"];
    assert_eq!(folder.rows(&source), rows);
    let named = Source::new([folder.path("b.txt")]).whole_file(true).id("path").text("{path}: {text}".parse().unwrap());
    assert_eq!(folder.rows(&named), ["\"b.txt\" [\"b.txt: one\\ntwo\\n\"]"]);
}

#[test]
fn texts_end_with_zero_bytes() {
    let (folder, source) = Folder::with("list", "\u{feff}one\ntwo\0\0three\r\n\0");
    let source = source.format(InputFormat::Nul);
    assert_eq!(folder.rows(&source), ["0 [\"one\\ntwo\"]", "1 [\"\"]", "2 [\"three\\r\\n\"]"]);
}

#[test]
fn a_line_is_an_object() {
    let lines = "\u{feff}{\"text\": \"one\", \"n\": 7}\r\n\n  \n\"tw\\u00f6\"\n\
                 {\"n\": 12345678901234567890123, \"text\": null, \"new\": {\"a\": [1, \"x\"]}}\n\
                 {\"text\":\"x\",\"text\":\"\",\"n\":0.5,\"t\\u0065\":true}";
    let (folder, source) = Folder::with("a.ndjson", lines);
    let rows = [
        "0 [\"one\"] 7",
        "1 [\"twö\"] null",
        "2 [\"\"] json:12345678901234567890123 json:{\"a\": [1, \"x\"]}",
        "3 [\"\"] 0.5 null true",
    ];
    assert_eq!(folder.rows(&all(source.clone())), rows);
    let mut rows = source.clone().keep(Keep::All).files().unwrap().rows();
    assert_eq!(rows.columns(), [""; 0]);
    rows.by_ref().take(2).for_each(drop);
    assert_eq!(rows.columns(), ["n"]);
    rows.by_ref().for_each(drop);
    assert_eq!(rows.columns(), ["n", "new", "te"]);

    let source = source.keep(Keep::Columns(["new", "text", "there"].map(String::from).into()));
    let rows = [
        "0 [\"one\"] null \"one\" null",
        "1 [\"twö\"] null \"twö\" null",
        "2 [\"\"] json:{\"a\": [1, \"x\"]} null null",
        "3 [\"\"] null \"\" null",
    ];
    assert_eq!(folder.rows(&source), rows);
    let mut rows = source.files().unwrap().rows();
    rows.next();
    assert_eq!(rows.unseen(), ["new", "there"]);
    rows.by_ref().for_each(drop);
    assert_eq!(rows.unseen(), ["there"]);
}

#[test]
fn an_array_has_objects() {
    let array = "\u{feff}\n [{\"text\": \"one\",\n  \"id\": \"a\", \"more\": [\n    1,\n    2\n  ]},\n\"two\" , {\"id\":3,\"text\":\"],\\\"\"} ]\n";
    let (folder, source) = Folder::with("a.json", array);
    let rows = ["0 [\"one\"] \"a\" json:[1,2]", "1 [\"two\"] null null", "2 [\"],\\\"\"] 3 null"];
    assert_eq!(folder.rows(&all(source.clone())), rows);
    folder.write("a.json", "\n{\"text\": \"one\"}\n{}\n\"two\"\n");
    let rows = ["0 [\"one\"]", "! a.json, line 3: there is no field \"text\": it has none", "2 [\"two\"]"];
    assert_eq!(folder.rows(&source), rows, "an object a line under the name of an array");
}

#[test]
fn fields_stand_between_separators() {
    let csv = "\u{feff}id,text,\"no, te\"\r\n007,\"one \"\"1\"\"\n\",x\r\n\r\n,\"\",\r\n,1.5,7\r\n";
    let (folder, source) = Folder::with("a.csv", csv);
    let source = source.id("id").keep(Keep::All);
    let rows = ["\"007\" [\"one \\\"1\\\"\\n\"] \"x\"", "\"\" [\"\"] \"\"", "\"\" [\"1.5\"] \"7\""];
    assert_eq!(folder.rows(&source), rows);
    assert_eq!(
        source.files().unwrap().rows().nth(2).unwrap().unwrap().unwrap().place.to_string().split(", ").last(),
        Some("line 6")
    );
    let source = Source::new([folder.write("a.tab", "text\tn\na, b\t7\n")]).keep(Keep::All);
    assert_eq!(folder.rows(&source), ["0 [\"a, b\"] \"7\""]);
    let source = Source::new([folder.write("b.csv", "text;n\na, b;7")]).keep(Keep::All).separator(b';');
    assert_eq!(folder.rows(&source), ["0 [\"a, b\"] \"7\""]);
}

#[test]
fn a_request_is_a_row() {
    let lines = r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"one","dimensions":64}}
{"custom_id":"7","body":{"input":["one","tw\u00f6"],"encoding_format":"base64","user":"x"}}
{"custom_id":"b","method":"POST","url":"/v1/chat/completions","body":{"input":"one"}}
{"custom_id":"b","method":"GET","url":"/v1/embeddings","body":{"input":"one"}}
{"custom_id":7,"body":{"input":"one"}}
{"body":{"input":"one"}}
{"custom_id":"b"}
{"custom_id":"b","body":{}}
{"custom_id":"b","body":7}
{"custom_id":"b","body":{"input":[1,2]}}
{"custom_id":"b","body":{"input":["a",["b"]]}}
{"custom_id":"b","body":{"input":[]}}
{"custom_id":"b","body":{"input":null}}
["b"]"#;
    let (folder, source) = Folder::with("a.jsonl", lines);
    let source = source.format(InputFormat::OpenAiBatch);
    let rows = [
        "\"a\" [\"one\"] \"m\" 64 null",
        "\"7\" [\"one\", \"twö\"] null null \"base64\"",
        "! a.jsonl, line 3: the request is for \"/v1/chat/completions\", not for POST /v1/embeddings",
        "! a.jsonl, line 4: the request is for \"GET\", not for POST /v1/embeddings",
        "! a.jsonl, line 5: the field \"custom_id\" is a number, and cannot be an id",
        "! a.jsonl, line 6: there is no field \"custom_id\": it has \"body\"",
        "! a.jsonl, line 7: there is no field \"body\": it has \"custom_id\"",
        "! a.jsonl, line 8: there is no field \"input\": it has none",
        "! a.jsonl, line 9: the field \"body\" is no valid JSON: invalid type: integer `7`, expected an object",
        "! a.jsonl, line 10: the field \"input\" is an array with a number in it, and cannot be a text",
        "! a.jsonl, line 11: the field \"input\" is an array with an array in it, and cannot be a text",
        "! a.jsonl, line 12: the field \"input\" is an empty array, and cannot be a text",
        "! a.jsonl, line 13: the field \"input\" is null, and cannot be a text",
        "! a.jsonl, line 14: this is an array, where a request is an object",
    ];
    assert_eq!(folder.rows(&source), rows);
    assert_eq!(source.files().unwrap().rows().columns(), ["model", "dimensions", "encoding_format"]);
}

#[test]
fn texts_of_several_fields_ids_and_instructions() {
    let lines = r#"{"t":"a","n":1,"f":1.0,"b":true,"x":null,"big":18446744073709551616,"say":"s","id":"x"}
{"t":"","n":-1,"f":2e50,"b":false,"x":"y","big":1,"say":"","id":1.5}
{"t":"","n":-1,"f":0.1,"b":false,"x":"y","big":1,"id":true}"#;
    let (folder, source) = Folder::with("a.jsonl", lines);
    let source = source.text(r"{t}|{n}|{f}|{b}|{x}|{big}".parse().unwrap()).instruction("say").id("id");
    let rows = [
        "\"x\" [\"a|1|1.0|true||18446744073709551616\"] <s>",
        "1.5 [\"|-1|2e+50|false|y|1\"]",
        "true [\"|-1|0.1|false|y|1\"]",
    ];
    assert_eq!(folder.rows(&source), rows);
    let source = source.keep(Keep::All);
    let kept = "\"a\" 1 1.0 true null json:18446744073709551616 \"s\"";
    assert_eq!(folder.rows(&source)[0], format!("{} {kept}", rows[0]), "what a text is made of is kept");
}

#[test]
fn compressed_files_are_known_by_their_first_bytes() {
    let folder = Folder::new();
    let csv = "\u{feff}text,n\none,1\n";
    let twice = [gzip(csv.as_bytes()), gzip(b"two,2\n")].concat();
    let rows = ["0 [\"one\"] \"1\"", "1 [\"two\"] \"2\""];
    for (name, bytes) in [
        ("a.csv.gz", twice.clone()),
        ("a.csv", twice),
        ("b.csv.zst", [zstd(csv.as_bytes()), zstd(b"two,2\n")].concat()),
        ("b.csv.gz", format!("{csv}two,2\n").into_bytes()),
    ] {
        let source = Source::new([folder.write(name, bytes)]).keep(Keep::All);
        assert_eq!(folder.rows(&source), rows, "{name}");
    }
    for (name, text) in [
        ("a.txt", "one\ntwo\n"),
        ("a.jsonl", "\"one\"\n\"two\""),
        ("a.json", "[\"one\",\"two\"]"),
        ("a.tsv", "text\none\ntwo\n"),
    ] {
        for bytes in [gzip(text.as_bytes()), zstd(text.as_bytes())] {
            let source = Source::new([folder.write(name, bytes)]);
            assert_eq!(folder.rows(&source), ["0 [\"one\"]", "1 [\"two\"]"], "{name}");
        }
    }
}

#[test]
fn an_empty_file_has_no_rows() {
    for name in ["a.txt", "a.jsonl", "a.json", "a.csv", "a.tsv"] {
        for text in ["", "\u{feff}", "\n\r\n"] {
            let (folder, source) = Folder::with(name, text);
            assert_eq!(folder.rows(&source), [""; 0], "{name} {text:?}");
            folder.write(name, gzip(text.as_bytes()));
            assert_eq!(folder.rows(&source), [""; 0], "{name} {text:?}");
        }
    }
    let (folder, source) = Folder::with("a.json", "[ ]");
    assert_eq!(folder.rows(&source), [""; 0]);
    let (folder, source) = Folder::with("a.csv", "id,text\r\n");
    assert_eq!(folder.rows(&source), [""; 0]);
}

#[test]
fn rows_move_to_other_threads() {
    fn sent<T: Send>(_: T) {}
    sent(Source::new([""; 0]).files().unwrap().rows());
}
