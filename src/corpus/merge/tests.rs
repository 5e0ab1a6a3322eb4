//! Parts make what one run makes, or an error says why not.

use super::{MergeError, merge};
use crate::corpus::dtype::Dtype;
use crate::corpus::record::PART;
use crate::corpus::row::{ColumnType, Value};
use crate::corpus::sample::{Sample, sample};
use crate::corpus::write::{OutputFormat, create_shards};
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Writes the records between these bounds as parts. Of bounds that are the same, the part is empty.
fn parts(folder: &TempDir, format: OutputFormat, whole: &mut Sample, bounds: &[usize]) -> Vec<PathBuf> {
    let count = bounds.len() - 1;
    let mut paths = Vec::new();
    for (number, bounds) in bounds.windows(2).enumerate() {
        whole.layout.metadata.push((PART.to_owned(), format!("{}/{count}", number + 1)));
        let path = folder.path().join(format!("part {number}"));
        whole.write(format, &path, bounds[0]..bounds[1]);
        whole.layout.metadata.pop();
        paths.push(path);
    }
    paths
}

#[test]
fn parts_make_what_one_run_makes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("whole");
    for format in OutputFormat::ALL {
        for (dtype, chunked) in [(Dtype::F32, false), (Dtype::F16, true), (Dtype::Int8, false), (Dtype::Ubinary, true)]
        {
            if chunked && format == OutputFormat::OpenaiBatch {
                continue;
            }
            let mut made = sample(400, 20, dtype, chunked);
            let count = made.records.len();
            let mut paths = parts(&folder, format, &mut made, &[0, 100, 100, 371, count]);
            if format.has_hashes() {
                paths.reverse();
            }
            merge(format, &paths, &out).unwrap();
            let merged = fs::read(&out).unwrap();
            assert!(merged == made.bytes(format, &folder.path().join("at once")), "{format}, {dtype}");
        }
    }
    // Several row groups.
    let mut made = sample(600, 10_000, Dtype::F32, false);
    let paths = parts(&folder, OutputFormat::Parquet, &mut made, &[0, 7, 599, 600]);
    merge(OutputFormat::Parquet, &paths, &out).unwrap();
    assert!(fs::read(&out).unwrap() == made.bytes(OutputFormat::Parquet, &folder.path().join("at once")));
}

/// Writes all records as a part in several files.
fn in_files(path: &Path, format: OutputFormat, whole: &mut Sample, part: &str) -> Vec<PathBuf> {
    whole.layout.metadata.push((PART.to_owned(), part.to_owned()));
    let mut sink = create_shards(format, path, &whole.layout, NonZero::new(10).unwrap()).unwrap();
    whole.push(&mut *sink, 0..whole.records.len());
    whole.layout.metadata.pop();
    sink.finish().unwrap().files
}

#[test]
fn files_of_a_part_are_put_together_or_it_is_said_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let out = path("whole");
    for format in [OutputFormat::Parquet, OutputFormat::Sqlite] {
        let mut made = sample(25, 20, Dtype::F32, false);
        let name = path(format.name());
        let mut files = in_files(&name, format, &mut made, "1/1");
        let said = |files: &[PathBuf]| merge(format, files, &out).unwrap_err().to_string();
        let shown = |path: &Path| path.display().to_string();
        assert_eq!(
            said(&[files[0].clone(), files[2].clone()]),
            "part 1 is in several files, of which these are missing: 1"
        );
        assert_eq!(
            said(&files[..2]),
            format!(
                "{} is not the last file of its part: files are missing, or the run that writes them has not ended",
                shown(&files[1])
            )
        );
        let again = path("again");
        fs::copy(&files[1], &again).unwrap();
        files.push(again.clone());
        assert_eq!(said(&files), format!("{} and {} are the same part", shown(&files[1]), shown(&again)));
        let made_as_one = parts(&folder, format, &mut made, &[0, 25]);
        files[3] = made_as_one[0].clone();
        assert_eq!(said(&files), format!("{} and {} are the same part", shown(&files[3]), shown(&files[0])));
        files.pop();
        files.reverse();
        merge(format, &files, &out).unwrap();
        let whole = made.bytes(format, &path("at once"));
        assert!(fs::read(&out).unwrap() == whole);
        fs::remove_file(&out).unwrap();
        // A later run of fewer rows.
        made.records.truncate(15);
        in_files(&name, format, &mut made, "1/1");
        let stale = format!("{} is of an earlier run: its part ends before it. Leave it out", shown(&files[0]));
        assert_eq!(said(std::slice::from_ref(&name)), stale);
        assert!(!out.exists());
    }
}

#[test]
fn parts_may_know_less_of_a_column_than_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("whole");
    for format in [OutputFormat::Parquet, OutputFormat::Sqlite] {
        let mut made = sample(4, 20, Dtype::F32, false);
        let values = [Value::Null, Value::Int(1), Value::Float(0.5), Value::Text("a".into())];
        let types = [ColumnType::Null, ColumnType::Int, ColumnType::Float, ColumnType::Text];
        let ids = [Value::Int(4), Value::Int(3), Value::Text("b".into()), Value::Text("5".into())];
        let mut paths = Vec::new();
        for (i, (value, of)) in values.into_iter().zip(types).enumerate() {
            made.records[i].kept[4] = value;
            made.records[i].id = ids[i].clone();
            made.layout.columns.types[4] = of;
            made.layout.id = if i < 2 { ColumnType::Int } else { ColumnType::Text };
            made.layout.metadata.push((PART.to_owned(), format!("{}/4", i + 1)));
            paths.push(folder.path().join(format!("part {i}")));
            made.write(format, &paths[i], i..i + 1);
            made.layout.metadata.pop();
        }
        merge(format, &paths, &out).unwrap();
        assert!(fs::read(&out).unwrap() == made.bytes(format, &folder.path().join("at once")), "{format}");
    }
}

#[test]
fn what_makes_no_whole_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("whole");
    let said = |format, paths: &[PathBuf]| merge(format, paths, &out).unwrap_err().to_string();
    let short = |path: &PathBuf| path.display().to_string();
    for format in [OutputFormat::Parquet, OutputFormat::Sqlite] {
        let mut made = sample(30, 20, Dtype::F32, false);
        let paths = parts(&folder, format, &mut made, &[0, 10, 20, 30]);
        assert_eq!(said(format, &paths[1..2]), "of 3 parts these are missing: 1, 3");
        let again = [paths[0].clone(), folder.path().join("again"), paths[2].clone()];
        fs::copy(&paths[0], &again[1]).unwrap();
        assert_eq!(said(format, &again), format!("{} and {} are the same part", short(&again[0]), short(&again[1])));
        let other = folder.path().join("other");
        made.layout.metadata[2].1 = "another model".into();
        made.write(format, &other, 10..20);
        let with_other = [paths[0].clone(), other.clone(), paths[2].clone()];
        assert_eq!(said(format, &with_other), format!("{} says of itself no number as a part", short(&other)));
        made.layout.metadata.push((PART.into(), "2/3".into()));
        made.write(format, &other, 10..20);
        let differs = said(format, &with_other);
        let expected = "has \"another model\" as qembed.model";
        assert!(differs.contains(expected) && differs.starts_with(&short(&other)), "{differs}");
        made.layout.metadata[2].1 = "a model".into();
        made.layout.metadata[3].1 = "2/4".into();
        made.write(format, &other, 10..20);
        assert!(said(format, &with_other).contains("has \"2/4\" as qembed.part"), "{}", said(format, &with_other));
        made.layout.metadata[3].1 = "2/3".into();
        made.layout.chunked = true;
        made.write(format, &other, 0..0);
        assert!(said(format, &with_other).contains("they are no parts of one output"));
        let error = merge(format, &paths, &paths[1]).unwrap_err();
        assert!(matches!(&error, MergeError::OutputIsPart { path } if *path == paths[1]), "{error}");
    }
    assert!(matches!(merge(OutputFormat::Raw, &[], &out), Err(MergeError::NoParts)));

    for format in [OutputFormat::Json, OutputFormat::Jsonl, OutputFormat::Csv, OutputFormat::Npy] {
        let mut made = sample(30, 20, Dtype::F32, false);
        let paths = parts(&folder, format, &mut made, &[0, 10, 30]);
        let whole = fs::read(&paths[1]).unwrap();
        fs::write(&paths[1], &whole[..whole.len() - 1]).unwrap();
        let error = merge(format, &paths, &out).unwrap_err();
        assert!(matches!(&error, MergeError::NotWhole { path, .. } if *path == paths[1]), "{format}: {error}");
        if matches!(format, OutputFormat::Csv | OutputFormat::Npy) {
            let mut other = sample(30, 21, Dtype::F32, false);
            other.layout.columns.names[3] = "other".into();
            other.write(format, &paths[1], 0..3);
            let error = merge(format, &paths, &out).unwrap_err();
            assert!(matches!(&error, MergeError::Differs { path, .. } if *path == paths[1]), "{format}: {error}");
        }
    }
    assert!(!out.exists());
}
