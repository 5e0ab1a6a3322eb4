//! What is said of what cannot be read.

use super::{Folder, gzip, zstd};
use crate::corpus::read::{InputFormat, Keep, Source};

#[test]
fn a_bad_row_is_named_and_the_next_one_read() {
    let lines: &[u8] = b"{\"text\": \"one\"}
{\"text\": \"two\" \"n\": 1}
{\"text\": \"three\"
7
[\"text\"]
{\"txt\": \"four\", \"id\": 1, \"t\": 2}
{\"text\": 7}
{\"text\": true}
{\"text\": [1]}
{\"text\": {}}
{\"text\": \"\\ud800\"}
{\"text\": \"f\xfcnf\"}
last
\"last\"";
    let (folder, source) = Folder::with("a.jsonl", lines);
    let rows = [
        "0 [\"one\"]",
        "! a.jsonl, line 2: no valid JSON: expected `,` or `}` at column 16",
        "! a.jsonl, line 3: no valid JSON: EOF while parsing an object at column 16",
        "! a.jsonl, line 4: this is a number, where a row is an object or a string",
        "! a.jsonl, line 5: this is an array, where a row is an object or a string",
        "! a.jsonl, line 6: there is no field \"text\": it has \"txt\", \"t\", \"id\"",
        "! a.jsonl, line 7: the field \"text\" is a number, and cannot be a text; in a template of several fields it is printed",
        "! a.jsonl, line 8: the field \"text\" is true or false, and cannot be a text; in a template of several fields it is printed",
        "! a.jsonl, line 9: the field \"text\" is an array, and cannot be a text",
        "! a.jsonl, line 10: the field \"text\" is an object, and cannot be a text",
        "! a.jsonl, line 11: the field \"text\" is no valid JSON: unexpected end of hex escape",
        "! a.jsonl, line 12: byte 12 is not valid UTF-8; if this is Latin-1 or Windows-1252, make it UTF-8, for instance with `iconv -f WINDOWS-1252 -t UTF-8`",
        "! a.jsonl, line 13: no valid JSON: expected value at column 1",
        "13 [\"last\"]",
    ];
    assert_eq!(folder.rows(&source), rows);
}

#[test]
fn a_template_prints_no_arrays() {
    let (folder, source) = Folder::with("a.jsonl", "{\"a\":[1]}\n{\"a\":{}}\n{\"b\":1}");
    let rows = [
        "! a.jsonl, line 1: the field \"a\" is an array, and cannot be a text",
        "! a.jsonl, line 2: the field \"a\" is an object, and cannot be a text",
        "! a.jsonl, line 3: there is no field \"a\": it has \"b\"",
    ];
    assert_eq!(folder.rows(&source.text("{a}".parse().unwrap())), rows);
}

#[test]
fn ids_and_instructions_are_what_they_can_be() {
    let lines = "{\"text\":\"a\"}\n{\"text\":\"a\",\"id\":null}\n{\"text\":\"a\",\"id\":[1]}\n{\"text\":\"a\",\"id\":1,\"say\":2}";
    let (folder, source) = Folder::with("a.jsonl", lines);
    let rows = [
        "! a.jsonl, line 1: there is no field \"id\": it has \"text\"",
        "! a.jsonl, line 2: the field \"id\" is null, and cannot be an id",
        "! a.jsonl, line 3: the field \"id\" is an array, and cannot be an id",
        "! a.jsonl, line 4: the field \"say\" is a number, and cannot be an instruction",
    ];
    assert_eq!(folder.rows(&source.id("id").instruction("say")), rows);
}

#[test]
fn elements_are_named_with_line_and_column() {
    let (folder, source) = Folder::with("a.json", "[\"a\", {\"text\":}, 7,\n  {\"text\":\n\"b\",,},\n\"c\",]");
    let rows = [
        "0 [\"a\"]",
        "! a.json, row 2: no valid JSON: expected value at line 1, column 15",
        "! a.json, row 3: this is a number, where a row is an object or a string",
        "! a.json, row 4: no valid JSON: key must be a string at line 3, column 5",
        "4 [\"c\"]",
        "! a.json, row 6: no valid JSON: EOF while parsing a value at line 4, column 4",
    ];
    assert_eq!(folder.rows(&source), rows);
    folder.write("a.json", "\n\n [7, {\"text\"}]");
    let said = "! a.json, row 2: no valid JSON: expected `:` at line 3, column 13";
    assert_eq!(folder.rows(&source)[1], said);
    for (text, said) in [
        ("7", "!! a.json: this is a number, not an array of rows"),
        ("<p>", "!! a.json: this is no JSON, not an array of rows"),
        ("[]\n,", "!! a.json: line 2: there is something behind the end of the array"),
        (
            "[\n\n\"a",
            "!! a.json: the file ends within the array, in element 1, which begins on line 3: a bracket or a quotation mark \
             is not closed, or the file was cut off",
        ),
    ] {
        folder.write("a.json", text);
        assert_eq!(folder.rows(&source), [said]);
    }
}

#[test]
fn rows_of_csv_are_as_long_as_the_first() {
    let bytes = b"id,text\n1,one\n2\n3,\"thr\nee\",\n\n4,f\xfcnf\n5,six";
    let (folder, source) = Folder::with("a.csv", bytes);
    let rows = [
        "0 [\"one\"]",
        "! a.csv, line 3: it has 1 field, while the first row names 2: is a separator or a quotation mark missing?",
        "! a.csv, line 4: it has 3 fields, while the first row names 2: is a separator or a quotation mark missing?",
        "! a.csv, line 7: column \"text\": byte 2 is not valid UTF-8; if this is Latin-1 or Windows-1252, make it UTF-8, for instance with `iconv -f WINDOWS-1252 -t UTF-8`",
        "4 [\"six\"]",
    ];
    assert_eq!(folder.rows(&source), rows);
    assert_eq!(
        folder.rows(&source.text("{id}".parse().unwrap())).len(),
        5,
        "bytes that nobody asks for are none of ours"
    );
}

#[test]
fn a_column_that_is_not_there_is_an_error_of_the_file() {
    let (folder, source) = Folder::with("a.csv", "id,body,Texts,id,a,b,c,d,e,f\n");
    assert_eq!(
        folder.rows(&source),
        [
            "!! a.csv: there is no column \"text\": there are \"Texts\", \"e\", \"id\", \"body\", \"id\", \"a\", \"b\", \"c\" and 2 more"
        ]
    );
    let source = source.text("Texts".parse().unwrap());
    assert_eq!(folder.rows(&source), [""; 0]);
    let twice = ["!! a.csv: there is more than one column \"id\": give each a name of its own"];
    assert_eq!(folder.rows(&source.clone().id("id")), twice);
    assert_eq!(folder.rows(&source.clone().keep(Keep::All)), twice);
    folder.write("a.csv", "id;Texts\n");
    assert_eq!(
        folder.rows(&source),
        [
            "!! a.csv: there is no column \"Texts\": there is but \"id;Texts\"; is another character than the comma its separator?"
        ]
    );
    let kept = Keep::Columns(vec!["x".into()]);
    let source = Source::new([folder.write("a.txt", "a\n")]).keep(kept);
    assert_eq!(folder.rows(&source), ["!! a.txt: there is no column \"x\": there are \"text\""]);
}

#[test]
fn a_line_that_is_no_utf8_is_named() {
    let latin = "if this is Latin-1 or Windows-1252, make it UTF-8, for instance with `iconv -f WINDOWS-1252 -t UTF-8`";
    let (folder, source) = Folder::with("a.txt", b"a\nb\xfc\nc\n");
    let second = format!("! a.txt, line 2: byte 2 is not valid UTF-8; {latin}");
    assert_eq!(folder.rows(&source), ["0 [\"a\"]", &second, "2 [\"c\"]"]);
    let whole = format!("! a.txt: byte 4 is not valid UTF-8; {latin}");
    assert_eq!(folder.rows(&source.clone().whole_file(true)), [whole]);
    let nul = format!("! a.txt, row 1: byte 4 is not valid UTF-8; {latin}");
    assert_eq!(folder.rows(&source.format(InputFormat::Nul)), [nul]);
    for (name, mark) in [("a.txt", "!!"), ("a.jsonl", "!!"), ("a.json", "!!"), ("a.csv", "!!"), ("a.md", "!")] {
        let source = Source::new([folder.write(name, b"\xff\xfea\0\n\0")]).whole_file(name == "a.md");
        let said = &folder.rows(&source)[0];
        assert!(said.starts_with(&format!("{mark} {name}: this is UTF-16, ")), "{said}");
    }
}

#[test]
fn a_file_that_was_cut_off_says_so() {
    let text = "one\n".repeat(10_000);
    let folder = Folder::new();
    for (name, bytes) in [("gzip", gzip(text.as_bytes())), ("zstd", zstd(text.as_bytes()))] {
        let source = Source::new([folder.write("a.txt", &bytes[..bytes.len() - 5])]);
        let rows = folder.rows(&source);
        let said =
            format!("!! a.txt: its {name} data ends too soon: was it cut off while it was downloaded or written?");
        assert_eq!(rows.last(), Some(&said));
        assert_eq!(rows[0], if rows.len() > 1 { "0 [\"one\"]".into() } else { said });
    }
    let mut bytes = gzip(text.as_bytes());
    let at = bytes.len() - 6;
    bytes[at] ^= 1;
    let source = Source::new([folder.write("a.txt", bytes)]);
    let last = folder.rows(&source).pop().unwrap();
    assert_eq!(last, "!! a.txt: its gzip data is damaged: corrupt gzip stream does not have a matching checksum");
    let source = Source::new([folder.write("a.csv", b"PK\x03\x04....")]);
    let said =
        "!! a.csv: this is a ZIP archive (or an Excel file): unpack it first (gzip and zstd are read as they are)";
    assert_eq!(folder.rows(&source), [said]);
}

#[test]
fn an_error_of_a_file_does_not_end_the_others() {
    let folder = Folder::new();
    let inputs = [folder.write("a.csv", "x\n1\n"), folder.write("b.csv", "text\n1\n")];
    let rows = ["!! a.csv: there is no column \"text\": there are \"x\"", "0 [\"1\"]"];
    assert_eq!(folder.rows(&Source::new(inputs)), rows);
}
