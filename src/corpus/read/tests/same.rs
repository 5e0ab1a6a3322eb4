//! The same rows, whatever the format.

use super::{Folder, gzip, zstd};
use crate::corpus::read::{InputFormat, Keep, Source};
use crate::corpus::row::{Row, Value};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;
use std::sync::Arc;

const NAMES: [&str; 3] = ["id", "text", "to keep"];

/// Of each row its texts, as they are.
fn rows(source: &Source) -> Vec<[String; 3]> {
    let text = |value: Value| match value {
        Value::Text(text) => text,
        Value::Cell(array, row) => array.as_string::<i32>().value(row).into(),
        other => panic!("{other:?}"),
    };
    let row = |row: Row| {
        let Row { id, mut texts, mut kept, .. } = row;
        [text(id), texts.remove(0), text(kept.remove(0))]
    };
    source.files().unwrap().rows().map(|item| row(item.unwrap().unwrap())).collect()
}

fn csv(rows: &[[String; 3]], delimiter: u8) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
    writer.write_record(NAMES).unwrap();
    rows.iter().for_each(|row| writer.write_record(row).unwrap());
    writer.into_inner().unwrap()
}

fn parquet(rows: &[[String; 3]]) -> Vec<u8> {
    let column = |at: usize| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row[at]))) };
    let batch = RecordBatch::try_from_iter(NAMES.into_iter().zip((0..3).map(column))).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn object(row: &[String; 3], indent: bool) -> String {
    let object = serde_json::json!({NAMES[0]: row[0], NAMES[1]: row[1], NAMES[2]: row[2]});
    if indent { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_formats_give_the_same_rows(given in prop::collection::vec(prop::array::uniform3("(?s)[ -~\n\r\t\"',;{}\\[\\]\\\\äü二\u{feff}]{0,12}"), 0..8)) {
        let folder = Folder::new();
        let lines: String = given.iter().map(|row| object(row, false) + "\n").collect();
        let array = format!("[{}]", given.iter().map(|row| object(row, true)).collect::<Vec<_>>().join(" ,\n"));
        for (name, bytes) in [
            ("a.jsonl", lines.into_bytes()),
            ("a.json", array.into_bytes()),
            ("a.csv", csv(&given, b',')),
            ("a.tsv", csv(&given, b'\t')),
            ("a.parquet", parquet(&given)),
        ] {
            let packed = if name == "a.parquet" { vec![] } else { vec![gzip(&bytes), zstd(&bytes)] };
            for bytes in [bytes].into_iter().chain(packed) {
                let source = Source::new([folder.write(name, bytes)]).id("id").keep(Keep::All);
                prop_assert_eq!(&rows(&source), &given, "{}", name);
            }
        }
    }

    /// Whatever the bytes are: an end, no panic, and the same the second time.
    #[test]
    fn anything_can_be_read(bytes in prop::collection::vec(prop::sample::select(b"a1\"\"{}[],,:\\\n\n\r\0 \xc3\xa4\xffPAR1".to_vec()), 0..64)) {
        let formats = [
            InputFormat::Lines, InputFormat::Whole, InputFormat::Nul, InputFormat::JsonLines, InputFormat::Json,
            InputFormat::Csv, InputFormat::Tsv, InputFormat::Parquet, InputFormat::OpenAiBatch,
        ];
        let (folder, source) = Folder::with("a", bytes);
        for format in formats {
            folder.rows(&source.clone().format(format));
        }
    }
}
