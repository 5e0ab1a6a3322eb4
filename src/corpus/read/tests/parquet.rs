//! Parquet files, as the parquet crate writes them.

use super::{Folder, gzip};
use crate::corpus::read::{Keep, ReadError, Source};
use crate::corpus::row::{ColumnType, Value};
use arrow_array::builder::{ListBuilder, StringBuilder, StringDictionaryBuilder, StringViewBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, Decimal128Array, Float32Array, Int64Array, LargeStringArray, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray, UInt8Array,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::sync::Arc;

fn file(columns: Vec<(&str, ArrayRef)>, compression: Compression) -> Vec<u8> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, array)| array).collect()).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn texts() -> ArrayRef {
    Arc::new(StringArray::from(vec![Some("one"), None, Some("zwö")]))
}

#[test]
fn columns_of_all_types_are_kept_as_they_are() {
    let mut lists = ListBuilder::new(StringBuilder::new());
    lists.append_value([Some("a"), None]);
    lists.append_null();
    lists.append_value([None::<&str>; 0]);
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let inner = Field::new("in", DataType::Int64, true);
    let nested = StructArray::from(vec![(Arc::new(inner), number.clone())]);
    let time = TimestampMicrosecondArray::from(vec![Some(0), None, Some(1)]).with_timezone("UTC");
    let decimal = Decimal128Array::from(vec![150, 200, 5]).with_precision_and_scale(5, 2).unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(UInt8Array::from(vec![7, 8, 255]))),
        ("lists", Arc::new(lists.finish())),
        ("text", texts()),
        ("nested", Arc::new(nested)),
        ("time", Arc::new(time)),
        ("decimal", Arc::new(decimal)),
        ("n", number),
    ];
    let (folder, source) = Folder::with("a.parquet", file(columns, Compression::SNAPPY));
    let source = source.id("id").keep(Keep::All);
    let survey = source.files().unwrap().survey(|_| Ok::<_, ReadError>(())).unwrap();
    assert_eq!(survey.id, ColumnType::Arrow(DataType::UInt8));
    assert_eq!(survey.columns.names, ["lists", "nested", "time", "decimal", "n"]);
    assert_eq!(
        survey.columns.types[2..],
        [
            ColumnType::Arrow(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            ColumnType::Arrow(DataType::Decimal128(5, 2)),
            ColumnType::Arrow(DataType::Int64)
        ]
    );
    let rows = folder.rows(&source);
    assert!(rows[0].starts_with("UInt8:7 [\"one\"] List(Utf8):[a, ] Struct(\"in\": Int64):{in: 1} "), "{rows:?}");
    assert!(rows[0].ends_with(":1970-01-01T00:00:00Z Decimal128(5, 2):1.50 Int64:1"), "{rows:?}");
    assert!(rows[1].starts_with("UInt8:8 [\"\"] List(Utf8):null "), "{rows:?}");

    let source = source.keep(Keep::Columns(vec!["n".into(), "text".into()]));
    let source = source.text("{text}, {time}: {decimal}{n}".parse().unwrap());
    let rows = [
        "UInt8:7 [\"one, 1970-01-01T00:00:00Z: 1.501\"] Int64:1 Utf8:one",
        "UInt8:8 [\", : 2.002\"] Int64:2 Utf8:null",
        "UInt8:255 [\"zwö, 1970-01-01T00:00:00.000001Z: 0.053\"] Int64:3 Utf8:zwö",
    ];
    assert_eq!(folder.rows(&source), rows);

    let wrong = |source: Source| folder.rows(&source).concat();
    let source = Source::new([folder.path("a.parquet")]);
    let text = |name: &str| source.clone().text(name.parse().unwrap());
    let said = "!! a.parquet: the column \"n\" is of type Int64, and cannot be a text; in a template of several fields it is \
                printed";
    assert_eq!(wrong(text("n")), said);
    let said = "!! a.parquet: the column \"lists\" is of type List(Utf8), and cannot be a text";
    assert_eq!(wrong(text("lists")), said);
    assert_eq!(wrong(text("{lists}")), said);
    let said = "!! a.parquet: the column \"nested\" is of type Struct(\"in\": Int64), and cannot be an id";
    assert_eq!(wrong(source.clone().id("nested")), said);
    let said = "!! a.parquet: the column \"n\" is of type Int64, and cannot be an instruction";
    assert_eq!(wrong(source.clone().instruction("n")), said);
    let said = "!! a.parquet: there is no column \"nest\": there are \"nested\", \"n\", \"text\", \"lists\", \"decimal\", \"id\", \"time\"";
    assert_eq!(wrong(text("nest")), said);
    assert_eq!(wrong(source.clone().id("time")).matches("! a.parquet, row 2: the field \"time\" is null").count(), 1);
}

#[test]
fn texts_may_be_strings_of_any_kind() {
    let mut views = StringViewBuilder::new();
    let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
    for text in [Some("one"), None, Some("zwö")] {
        views.append_option(text);
        dictionary.append_option(text);
    }
    let kinds: Vec<ArrayRef> = vec![
        texts(),
        Arc::new(LargeStringArray::from(vec![Some("one"), None, Some("zwö")])),
        Arc::new(views.finish()),
        Arc::new(dictionary.finish()),
        Arc::new(BinaryArray::from(vec![Some("one".as_bytes()), None, Some("zwö".as_bytes())])),
    ];
    for text in kinds {
        let of = text.data_type().clone();
        let columns = vec![("text", text.clone()), ("say", text.clone()), ("id", text)];
        let (folder, source) = Folder::with("a.parquet", file(columns, Compression::UNCOMPRESSED));
        let rows = ["0 [\"one\"] <one>", "1 [\"\"]", "2 [\"zwö\"] <zwö>"];
        assert_eq!(folder.rows(&source.clone().instruction("say")), rows, "{of}");
        assert_eq!(folder.rows(&source.text("{text}".parse().unwrap()))[2], "2 [\"zwö\"]", "{of}");
    }
    let bytes = BinaryArray::from(vec![&b"a"[..], b"b\xff", b"c"]);
    let (folder, source) = Folder::with("a.parquet", file(vec![("text", Arc::new(bytes))], Compression::UNCOMPRESSED));
    let rows = folder.rows(&source);
    assert_eq!((&*rows[0], &*rows[2]), ("0 [\"a\"]", "2 [\"c\"]"));
    assert!(rows[1].starts_with("! a.parquet, row 2: column \"text\": byte 2 is not valid UTF-8"), "{rows:?}");
}

#[test]
fn files_are_compressed_in_any_way() {
    let ways = [
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::BROTLI(Default::default()),
        Compression::LZ4_RAW,
        Compression::LZ4,
        Compression::ZSTD(Default::default()),
    ];
    for way in ways {
        let (folder, source) = Folder::with("a.pq", file(vec![("text", texts())], way));
        assert_eq!(folder.rows(&source), ["0 [\"one\"]", "1 [\"\"]", "2 [\"zwö\"]"], "{way:?}");
    }
}

#[test]
fn a_file_without_its_footer_was_cut_off() {
    let bytes = file(vec![("text", texts())], Compression::SNAPPY);
    let folder = Folder::new();
    let said = |bytes: &[u8]| folder.rows(&Source::new([folder.write("a.parquet", bytes)])).concat();
    let cut = "!! a.parquet: this Parquet file is not whole: its footer is missing; was it cut off while it was downloaded or written?";
    for end in [4, 8, 20, bytes.len() - 1] {
        assert_eq!(said(&bytes[..end]), cut, "{end}");
    }
    assert_eq!(said(b""), "!! a.parquet: this is no Parquet file");
    assert_eq!(said(b"text\none\n"), "!! a.parquet: this is no Parquet file");
    assert_eq!(
        said(&gzip(&bytes)),
        "!! a.parquet: this is a Parquet file within gzip data, which would have to be read from its end: unpack it first"
    );
    let mut broken = bytes.clone();
    let at = bytes.len() - 20;
    broken[at..at + 8].fill(0xff);
    assert_eq!(said(&broken), "!! a.parquet: this Parquet file cannot be read: invalid utf8");
    let mut broken = bytes;
    broken[4..12].fill(0xff);
    let damaged = "!! a.parquet: this Parquet file cannot be read: Unexpected struct field type 15";
    assert_eq!(said(&broken), damaged);
}

#[test]
fn a_name_that_tells_nothing_does_not_hide_it() {
    let (folder, source) = Folder::with("part-0", file(vec![("text", texts())], Compression::SNAPPY));
    assert_eq!(folder.rows(&source)[0], "0 [\"one\"]");
    let input = Source::new(["-"]).standard_input(folder.path("part-0"));
    assert_eq!(folder.rows(&input)[0], "0 [\"one\"]");
}

/// Rows come a few at a time, of many groups, and of long ones fewer.
#[test]
fn batches_are_small() {
    let fields = vec![Field::new("text", DataType::Utf8, false), Field::new("x", DataType::Float32, true)];
    let schema = Arc::new(Schema::new(fields));
    let text = |i: usize, length: usize| format!("{i} {}", "x".repeat(length));
    for (rows, length, batch) in [(1000, 1, 256), (40, 1 << 20, 7)] {
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(700))
            .set_dictionary_enabled(false)
            .set_compression(Compression::ZSTD(Default::default()))
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).unwrap();
        let texts = StringArray::from_iter_values((0..rows).map(|i| text(i, length)));
        let numbers = Float32Array::from_iter_values((0..rows).map(|i| i as f32));
        writer.write(&RecordBatch::try_new(schema.clone(), vec![Arc::new(texts), Arc::new(numbers)]).unwrap()).unwrap();
        let (_folder, source) = Folder::with("a.parquet", writer.into_inner().unwrap());
        let mut longest = 0;
        for (i, row) in source.clone().keep(Keep::All).files().unwrap().rows().enumerate() {
            let row = row.unwrap().unwrap();
            assert_eq!(row.texts, [text(i, length)]);
            assert_eq!((row.place.number as usize, row.kept.len()), (i + 1, 1));
            let Value::Cell(array, _) = &row.kept[0] else { panic!("{row:?}") };
            longest = longest.max(array.len());
        }
        assert_eq!(longest, batch);
        assert_eq!(source.files().unwrap().rows().count(), rows);
    }
}
