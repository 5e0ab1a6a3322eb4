//! Every form of outputs: the same bytes for the same records, and what readers find in them.

use super::{OutputFormat, Sink, WriteError, create, create_shards};
use crate::corpus::dtype::Dtype;
use crate::corpus::row::{Columns, Value};
use crate::corpus::sample::{Owned, Sample, sample, value};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding};
use rusqlite::Connection;
use serde_json::json;
use std::fs::{self, File};
use std::num::NonZero;
use std::path::Path;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Row groups, and all records as one batch.
fn parquet(path: &Path) -> (ParquetRecordBatchReaderBuilder<File>, RecordBatch) {
    let open = || ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let (reader, builder) = (open().with_batch_size(1 << 20).build().unwrap(), open());
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    let [batch] = <[RecordBatch; 1]>::try_from(batches).unwrap();
    (builder, batch)
}

#[test]
fn the_same_records_make_the_same_bytes() {
    let folder = folder();
    for chunked in [false, true] {
        for dtype in Dtype::ALL {
            for format in OutputFormat::ALL {
                if chunked && format == OutputFormat::OpenaiBatch {
                    continue;
                }
                let first = sample(150, 40, dtype, chunked).bytes(format, &folder.path().join("first"));
                let second = sample(150, 40, dtype, chunked).bytes(format, &folder.path().join("second"));
                assert!(first == second, "{format}, {dtype}");
                let fewer = sample(149, 40, dtype, chunked).bytes(format, &folder.path().join("fewer"));
                assert!(first != fewer, "{format}, {dtype}");
            }
        }
    }
    // Larger than what SQLite keeps in memory.
    let large = sample(2000, 3000, Dtype::F32, false);
    let of = |name: &str| large.bytes(OutputFormat::Sqlite, &folder.path().join(name));
    let (first, second) = (of("first"), of("second"));
    assert!(first.len() > 20 << 20 && first == second);
    assert_eq!(names(&folder), ["fewer", "first", "second"], "nothing else is left");
}

#[test]
fn json_has_ids_vectors_and_columns_in_their_order() {
    let folder = folder();
    let path = folder.path().join("a");
    let made = sample(3, 2, Dtype::F32, false);
    let text = String::from_utf8(made.bytes(OutputFormat::Jsonl, &path)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[1],
        "{\"id\":\"id 7919\",\"embedding\":[-0.09472656,-0.0781249],\"nothing\":null,\"flag\":false,\"count\":-2,\"score\":0.125,\
         \"title\":\"a \\\"title\\\",\\n1\",\"tags\":[1,{\"a\":null}],\"list\":null,\"time\":null}"
    );
    assert!(lines[0].ends_with("\"list\":[1,null],\"time\":\"2023-11-14T22:13:20.123\"}"), "{}", lines[0]);
    let array = String::from_utf8(made.bytes(OutputFormat::Json, &path)).unwrap();
    assert_eq!(array, format!("[\n{}\n]\n", lines.join(",\n")));
    let chunks = String::from_utf8(sample(2, 2, Dtype::Int8, true).bytes(OutputFormat::Jsonl, &path)).unwrap();
    let line: serde_json::Value = serde_json::from_str(chunks.lines().last().unwrap()).unwrap();
    assert_eq!((&line["chunk"], &line["bytes"]), (&json!(1), &json!([10, 19])));
    assert_eq!((&line["lines"], &line["tokens"]), (&json!([2, 3]), &json!([1, 5])));
    assert!(line["embedding"][0].is_i64());
    assert_eq!(sample(0, 2, Dtype::F32, false).bytes(OutputFormat::Json, &path), b"[]\n");
    assert_eq!(sample(0, 2, Dtype::F32, false).bytes(OutputFormat::Jsonl, &path), b"");
}

#[test]
fn a_table_of_text_has_a_bracketed_vector_last() {
    let folder = folder();
    let path = folder.path().join("a");
    for (format, delimiter) in [(OutputFormat::Csv, b','), (OutputFormat::Tsv, b'\t')] {
        sample(3, 2, Dtype::F32, true).bytes(format, &path);
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_path(&path).unwrap();
        let header: Vec<&str> = reader.headers().unwrap().iter().collect();
        let kept = ["nothing", "flag", "count", "score", "title", "tags", "list", "time"];
        assert_eq!(header, [&["id", "chunk", "bytes", "lines", "tokens"][..], &kept, &["embedding"]].concat());
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 6);
        let fields: Vec<&str> = records[2].iter().collect();
        let kept = ["", "false", "-2", "0.125", "a \"title\",\n1", "[\n1, {\"a\": null}]", "", ""];
        let [a, b] = [0, 1].map(|i| value(2, i));
        let chunk = ["id 7919", "1", "[10,19]", "[2,3]", "[1,5]"];
        assert_eq!(fields, [&chunk[..], &kept, &[&format!("[{a},{b}]")]].concat());
    }
    let empty = sample(0, 2, Dtype::F32, false).bytes(OutputFormat::Csv, &path);
    assert_eq!(empty, b"id,nothing,flag,count,score,title,tags,list,time,embedding\n");
}

#[test]
fn matrices_and_bytes() {
    let folder = folder();
    let path = folder.path().join("a");
    for (dtype, descr, columns) in
        [(Dtype::F32, "<f4", 20), (Dtype::F16, "<f2", 20), (Dtype::Int8, "|i1", 20), (Dtype::Ubinary, "|u1", 3)]
    {
        let made = sample(5, 20, dtype, false);
        let vectors: Vec<u8> = made.records.iter().flat_map(|record| record.vector.clone()).collect();
        assert_eq!(made.bytes(OutputFormat::Raw, &path), vectors);
        let npy = made.bytes(OutputFormat::Npy, &path);
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (5, {columns}), }}");
        assert_eq!(str::from_utf8(&npy[10..128]).unwrap().trim_end(), header);
        assert_eq!(npy[128..], vectors);
    }
}

#[test]
fn parquet_has_typed_columns_and_lists_of_fixed_size() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let made = sample(5, 20, Dtype::F32, true);
    made.bytes(OutputFormat::Parquet, &path);
    let (file, batch) = parquet(&path);
    let schema = file.parquet_schema();
    let leaves: Vec<String> = schema.columns().iter().map(|leaf| leaf.path().string()).collect();
    let pairs = ["bytes.list.element", "lines.list.element", "tokens.list.element"];
    let kept = ["nothing", "flag", "count", "score", "title", "tags", "list.list.element", "time"];
    assert_eq!(leaves, [&["id", "chunk"][..], &pairs, &kept, &["text_sha256", "embedding.list.element"]].concat());
    let vector = file.metadata().row_group(0).columns().last().unwrap();
    assert!(vector.encodings().any(|encoding| encoding == Encoding::BYTE_STREAM_SPLIT));
    assert!(matches!(vector.compression(), Compression::ZSTD(_)));
    assert!(vector.statistics().is_none() && vector.dictionary_page_offset().is_none());
    let metadata = file.metadata().file_metadata();
    assert_eq!(metadata.created_by(), Some(concat!("qembed-q version ", env!("CARGO_PKG_VERSION"))));
    let pairs: Vec<_> = metadata.key_value_metadata().unwrap().iter().map(|pair| pair.key.as_str()).collect();
    assert_eq!(pairs, ["qembed.dtype", "qembed.dimensions", "qembed.model", "qembed.columns", "ARROW:schema"]);

    assert_eq!(batch.num_rows(), made.records.len());
    for (i, record) in made.records.iter().enumerate() {
        let vector = batch["embedding"].as_fixed_size_list().value(i);
        let values: Vec<f32> = (0..20).map(|k| value(i as u64, k)).collect();
        assert_eq!(vector.as_primitive::<Float32Type>().values(), &values[..]);
        let chunk = record.chunk.as_ref().unwrap();
        assert_eq!(batch["chunk"].as_primitive::<Int64Type>().value(i), chunk.number as i64);
        let tokens = batch["tokens"].as_fixed_size_list().value(i);
        assert_eq!(tokens.as_primitive::<Int64Type>().values(), &[chunk.tokens.start as i64, chunk.tokens.end as i64]);
        let hash = batch["text_sha256"].as_string::<i32>().value(i);
        assert_eq!(hash, format!("{:016x}{}", record.row, "07".repeat(24)));
    }
    let first_of_row_1 = batch.slice(1, 1);
    let text = |name: &str| first_of_row_1[name].as_string::<i32>().value(0).to_owned();
    assert_eq!((text("id"), text("title")), ("id 7919".into(), "a \"title\",\n1".into()));
    assert_eq!(text("tags"), "[\n1, {\"a\": null}]");
    assert_eq!(batch["title"].as_string::<i32>().value(0), "7", "a column of texts has numbers as texts");
    assert_eq!(batch["tags"].as_string::<i32>().value(0), "\"x\"", "a column of JSON has texts as JSON");
    assert_eq!(batch["nothing"].null_count(), batch.num_rows());
    assert_eq!(batch["list"].as_list::<i32>().value(0).len(), 2);
    assert!(batch["time"].data_type().is_temporal() && batch["time"].is_null(1));
}

#[test]
fn every_type_of_vectors_comes_back_from_parquet() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    for dtype in Dtype::ALL {
        let made = sample(300, 20, dtype, false);
        made.bytes(OutputFormat::Parquet, &path);
        let (file, batch) = parquet(&path);
        let list = batch["embedding"].as_fixed_size_list();
        let bytes = list.values().to_data().buffers()[0].as_slice().to_vec();
        assert_eq!(bytes, made.records.iter().flat_map(|record| record.vector.clone()).collect::<Vec<u8>>(), "{dtype}");
        let vector = file.metadata().row_group(0).columns().last().unwrap();
        let whole = matches!(dtype, Dtype::Int8 | Dtype::Ubinary);
        assert_eq!(vector.dictionary_page_offset().is_some(), whole);
        assert_eq!(vector.encodings().any(|encoding| encoding == Encoding::BYTE_STREAM_SPLIT), dtype == Dtype::F32);
    }
}

#[test]
fn row_groups_end_by_records_and_by_bytes() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let groups = |made: &Sample| {
        made.bytes(OutputFormat::Parquet, &path);
        let (file, batch) = parquet(&path);
        assert_eq!(batch.num_rows(), made.records.len());
        file.metadata().row_groups().iter().map(|group| group.num_rows()).collect::<Vec<_>>()
    };
    let mut made = sample(1500, 4096, Dtype::F32, false);
    // Batches of 16 KiB vectors and some bytes end with the 127th or 128th record, a group after eight of them.
    let found = groups(&made);
    assert!(found.len() == 2 && (1010..1030).contains(&found[0]), "{found:?}");
    assert_eq!(found, groups(&made));
    // Columns that are kept count, too.
    made.records.truncate(40);
    made.records.iter_mut().for_each(|record| record.kept[4] = Value::Text("word ".repeat(200_000)));
    let found = groups(&made);
    assert!(found.len() == 3 && found[0] < 20, "{found:?}");
    let mut many = sample(0, 8, Dtype::Ubinary, false);
    many.layout.columns = Columns::default();
    let of = |row| Owned { row, id: Value::Text("id".into()), chunk: None, kept: Vec::new(), vector: vec![7] };
    many.records.extend((0..70_000).map(of));
    assert_eq!(groups(&many), [65536, 4464]);
    let path = folder.path().join("none.parquet");
    sample(0, 8, Dtype::F32, false).bytes(OutputFormat::Parquet, &path);
    let file = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    assert_eq!((file.metadata().num_row_groups(), file.schema().fields().len()), (0, 11));
}

#[test]
fn a_database_has_rows_in_order_and_what_concerns_all() {
    let folder = folder();
    let path = folder.path().join("a.db");
    let made = sample(20, 6, Dtype::F32, true);
    made.bytes(OutputFormat::Sqlite, &path);
    let database = Connection::open(&path).unwrap();
    let mut all =
        database.prepare("SELECT id, chunk, tokens_to, text_sha256, metadata, embedding FROM embeddings").unwrap();
    let mut rows = all.query([]).unwrap();
    for record in &made.records {
        let row = rows.next().unwrap().unwrap();
        let chunk = record.chunk.as_ref().unwrap();
        assert_eq!(format!("{:?}", Value::Text(row.get(0).unwrap())), format!("{:?}", record.id));
        assert_eq!((row.get(1), row.get(2)), (Ok(chunk.number as i64), Ok(chunk.tokens.end as i64)));
        assert_eq!((row.get(3), row.get(5)), (Ok(record.record().hash), Ok(record.vector.clone())));
        let metadata: serde_json::Value = serde_json::from_str(&row.get::<_, String>(4).unwrap()).unwrap();
        assert_eq!(metadata["list"], [json!([1, null]), json!(null), json!([])][record.row as usize % 3]);
    }
    assert!(rows.next().unwrap().is_none());
    let meta: String =
        database.query_row("SELECT value FROM meta WHERE key = 'qembed.model'", [], |row| row.get(0)).unwrap();
    assert_eq!(meta, "a model");
    let whole: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
}

#[test]
fn a_batch_has_an_answer_a_request() {
    let folder = folder();
    let path = folder.path().join("a");
    let mut made = sample(4, 2, Dtype::F32, false);
    made.records[2].row = 1;
    made.records[3].row = 3;
    let mut sink = create(OutputFormat::OpenaiBatch, &path, &made.layout).unwrap();
    made.push(&mut *sink, 0..3);
    sink.push_error(2, &Value::Int(5), "too \"long\"").unwrap();
    made.push(&mut *sink, 3..4);
    sink.finish().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |line: &serde_json::Value| {
        (line["custom_id"].clone(), line["response"]["body"]["data"].as_array().map(Vec::len))
    };
    assert_eq!(
        lines.iter().map(of).collect::<Vec<_>>(),
        [(json!("id 0"), Some(1)), (json!("id 7919"), Some(2)), (json!("5"), None), (json!("id 3743"), Some(1))]
    );
    assert_eq!(
        lines[2],
        json!({"id": "batch_req_2", "custom_id": "5", "response": null,
               "error": {"code": "invalid_request", "message": "too \"long\""}})
    );
    let body = &lines[1]["response"]["body"];
    assert_eq!((&body["model"], &body["data"][1]["index"]), (&json!("a model"), &json!(1)));
    assert_eq!(body["usage"], json!({"prompt_tokens": 8, "total_tokens": 8}));
    assert_eq!((&lines[3]["id"], &lines[3]["error"]), (&json!("batch_req_3"), &json!(null)));
}

#[test]
fn shards_keep_rows_together() {
    let folder = folder();
    let path = folder.path().join("out.parquet");
    let write = |rows: u64| {
        let made = sample(rows, 4, Dtype::F32, true);
        let mut sink = create_shards(OutputFormat::Parquet, &path, &made.layout, NonZero::new(2).unwrap()).unwrap();
        made.push(&mut *sink, 0..made.records.len());
        let written = sink.finish().unwrap();
        let short = |paths: Vec<std::path::PathBuf>| -> Vec<String> {
            paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        (short(written.files), short(written.stale))
    };
    assert_eq!(write(5).0, ["out-00000.parquet", "out-00001.parquet", "out-00002.parquet"]);
    let rows = |name: &str| parquet(&folder.path().join(name)).1.num_rows();
    // A row has one, two or three records.
    assert_eq!((rows("out-00000.parquet"), rows("out-00001.parquet"), rows("out-00002.parquet")), (3, 4, 2));
    assert_eq!(
        write(0),
        (vec!["out-00000.parquet".into()], vec!["out-00001.parquet".into(), "out-00002.parquet".into()])
    );
    assert_eq!(write(4).0, ["out-00000.parquet", "out-00001.parquet"]);
}

#[test]
fn what_cannot_be_written_is_named() {
    let folder = folder();
    let path = folder.path().join("a");
    let said = |format, of: &Sample| {
        let pushed = create(format, &path, &of.layout)
            .and_then(|mut sink| of.records.iter().try_for_each(|record| sink.push(&record.record())).map(|()| sink));
        pushed.and_then(Sink::finish).unwrap_err()
    };
    let mut made = sample(9, 2, Dtype::F32, false);
    for (name, format) in [
        ("embedding", OutputFormat::Jsonl),
        ("id", OutputFormat::Csv),
        ("text_sha256", OutputFormat::Parquet),
        ("flag", OutputFormat::Tsv),
    ] {
        made.layout.columns.names[4] = name.into();
        let error = said(format, &made);
        assert!(matches!(&error, WriteError::NameTaken { name: found } if found == name), "{error}");
        assert!(error.to_string().contains("give it another name"));
    }
    made.layout.columns.names[4] = "chunk".into();
    made.bytes(OutputFormat::Parquet, &path);
    made.layout.columns.names[4] = "embedding".into();
    made.bytes(OutputFormat::Sqlite, &path);
    fs::remove_file(&path).unwrap();

    made.records[7].id = made.records[3].id.clone();
    let error = said(OutputFormat::Sqlite, &made);
    assert!(error.to_string().contains("id \"id 3743\" of row 8 is that of an earlier row"), "{error}");
    made.layout.columns.names[4] = "title".into();
    made.records[8].kept[2] = Value::Bool(true);
    let error = said(OutputFormat::Parquet, &made);
    assert_eq!(error.to_string(), "row 9, column \"count\": a value that is no Int64, as the column is");
    assert!(matches!(said(OutputFormat::OpenaiBatch, &sample(1, 2, Dtype::F32, true)), WriteError::Chunked { .. }));
    assert_eq!(names(&folder), [""; 0], "nothing is left behind");
}
