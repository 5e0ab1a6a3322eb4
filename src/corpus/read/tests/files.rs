//! Which files are found, and what changes when they do.

use super::Folder;
use crate::corpus::read::{Change, Fingerprint, InputFormat, Keep, ReadError, Source};
use crate::corpus::row::{ColumnType, Columns};
use std::fs;
use std::path::Path;

/// The files of a source, or why there are none.
fn found(folder: &Folder, source: &Source) -> Vec<String> {
    match source.files() {
        Ok(files) => {
            let shown = files.list().iter().map(|file| folder.bare(file.shown.display().to_string()));
            shown.map(|path| path.replace('\\', "/")).collect()
        }
        Err(error) => vec![folder.bare(format!("!! {error}"))],
    }
}

fn filled() -> Folder {
    let folder = Folder::new();
    for name in ["d/b.txt", "d/a/2.csv", "d/a/1.txt.gz", "d/a.json", "d/.hidden/x.txt", "d/.x.txt", "d/a/README.md"] {
        folder.write(name, "");
    }
    folder.write("other.parquet", "PAR1");
    folder
}

#[test]
fn folders_are_walked_in_the_order_of_names() {
    let folder = filled();
    let source = Source::new([folder.path("d")]);
    assert_eq!(found(&folder, &source), ["d/a/1.txt.gz", "d/a/2.csv", "d/a.json", "d/b.txt"]);
    assert_eq!(source.files().unwrap().passed_over(), 1);
    let forced = Source::new([folder.path("d/a")]).format(InputFormat::Lines);
    assert_eq!(found(&folder, &forced), ["d/a/1.txt.gz", "d/a/2.csv", "d/a/README.md"]);
    let whole = Source::new([folder.path("d/a")]).whole_file(true);
    assert_eq!(found(&folder, &whole), ["d/a/1.txt.gz", "d/a/2.csv", "d/a/README.md"]);
    let twice = Source::new([folder.path("d/b.txt"), folder.path("d"), folder.path("d/a")]);
    assert_eq!(found(&folder, &twice), ["d/b.txt", "d/a/1.txt.gz", "d/a/2.csv", "d/a.json"], "each once");
}

#[test]
fn patterns_are_filled_in() {
    let folder = filled();
    let source = |pattern: &str| Source::new([folder.path(pattern)]);
    assert_eq!(found(&folder, &source("d/*")), ["d/a.json", "d/b.txt"]);
    assert_eq!(found(&folder, &source("d/**/[12]*")), ["d/a/1.txt.gz", "d/a/2.csv"]);
    assert_eq!(found(&folder, &source("d/*.tsv")), ["!! d/*.tsv: no file matches this pattern"]);
    let said = found(&folder, &source("d/***"));
    assert!(said[0].starts_with("!! d/***: this is no pattern: "), "{said:?}");
    #[cfg(unix)]
    {
        folder.write("d/[x].txt", "");
        assert_eq!(found(&folder, &source("d/[x].txt")), ["d/[x].txt"], "a file of that name comes first");
    }
}

#[test]
fn what_gives_no_file_says_why() {
    let folder = filled();
    let source = |name: &str| Source::new([folder.path(name)]);
    let of = |name: &str| found(&folder, &source(name)).concat();
    assert!(of("none.txt").starts_with("!! none.txt: cannot be opened: "), "{}", of("none.txt"));
    let unknown =
        "its name does not tell its format, as .txt, .jsonl, .json, .csv, .tsv and .parquet do: say which it has";
    assert_eq!(of("d/a/README.md"), format!("!! d/a/README.md: {unknown}"));
    let none = "no file in it has a name that tells a format, as .txt, .jsonl, .json, .csv, .tsv and .parquet do (1 passed \
                over): say which they have";
    assert_eq!(of("d/a/*.md"), format!("!! d/a/*.md: {none}"));
    fs::create_dir(folder.path("empty")).unwrap();
    assert_eq!(of("empty"), "!! empty: there is no file in it");
    #[cfg(unix)]
    assert_eq!(
        found(&folder, &Source::new(["/dev/null"])),
        ["!! /dev/null: this is neither a file nor a folder; what can be read but once is read as standard input"]
    );
}

#[cfg(unix)]
#[test]
fn links_to_files_are_followed_and_an_unreadable_folder_is_an_error() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = filled();
    symlink(folder.path("other.parquet"), folder.path("d/c.parquet")).unwrap();
    symlink(folder.path("d"), folder.path("d/loop")).unwrap();
    let source = Source::new([folder.path("d")]);
    assert_eq!(found(&folder, &source), ["d/a/1.txt.gz", "d/a/2.csv", "d/a.json", "d/b.txt", "d/c.parquet"]);
    assert_eq!(source.files().unwrap().passed_over(), 2);

    fs::set_permissions(folder.path("d/a"), fs::Permissions::from_mode(0o000)).unwrap();
    // To some users nothing is barred.
    if fs::read_dir(folder.path("d/a")).is_err() {
        let said = found(&folder, &source).concat();
        assert!(said.starts_with("!! d/a: this folder cannot be read: "), "{said}");
    }
    fs::set_permissions(folder.path("d/a"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn standard_input_is_called_so_wherever_it_lies() {
    let folder = Folder::new();
    let kept = folder.write("kept.csv", "a\nb\n");
    let source = Source::new(["-"]);
    let said = "!! standard input: it can be read but once, and has to be kept in a file first";
    assert_eq!(folder.rows(&source), [said]);
    let source = source.standard_input(kept);
    assert_eq!(folder.rows(&source)[0], "0 [\"a\"]", "lines, whatever the file is called");
    folder.write("kept.csv", b"a\nb\xff\n");
    assert!(folder.rows(&source)[1].starts_with("! standard input, line 2: byte 2 is not valid UTF-8"));
    let csv = source.clone().format(InputFormat::Csv);
    assert_eq!(folder.rows(&csv), ["!! standard input: there is no column \"text\": there are \"a\""]);
    assert_eq!(source.files().unwrap().list()[0].shown.as_ref(), Path::new("-"));
}

#[test]
fn a_fingerprint_tells_what_has_changed() {
    let folder = Folder::new();
    let [a, b] = [("a.txt", "abc"), ("b.txt", "")].map(|(name, text)| folder.write(name, text));
    let of = |source: &Source| source.files().unwrap().fingerprint(|_| ()).unwrap();
    let both = Source::new([&a, &b]);
    let before = of(&both);
    assert_eq!(before.files[0].sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!((before.files[0].bytes, before.files[1].bytes), (3, 0));
    let mut read = 0;
    both.files().unwrap().fingerprint(|bytes| read += bytes).unwrap();
    assert_eq!((read, both.files().unwrap().bytes()), (3, 3));
    let kept: Fingerprint = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
    assert_eq!(kept.change(&of(&both)), None);

    let path = |path: &Path| path.display().to_string();
    assert_eq!(before.change(&of(&Source::new([&b]))), Some(Change::Gone { path: path(&a) }));
    assert_eq!(of(&Source::new([&b])).change(&before), Some(Change::Added { path: path(&a) }));
    assert_eq!(before.change(&of(&Source::new([&b, &a]))), Some(Change::Order { path: path(&b) }));
    fs::write(&a, "abd").unwrap();
    let change = before.change(&of(&both)).unwrap();
    assert_eq!(change, Change::Changed { path: path(&a) });
    assert_eq!(folder.bare(change.to_string()), "a.txt has changed");
    fs::remove_file(&a).unwrap();
    let files = both.files().map(|_| ()).unwrap_err();
    assert!(folder.bare(files.to_string()).starts_with("a.txt: cannot be opened: "));
}

#[test]
fn a_survey_finds_what_rows_have_in_common() {
    let lines = "{\"text\":\"a\",\"n\":1,\"id\":1}\n7\n{\"text\":\"a\",\"n\":0.5,\"id\":\"x\",\"new\":[]}\n{\"text\":\"a\",\"id\":2}";
    let (_folder, source) = Folder::with("a.jsonl", lines);
    let files = source.id("id").keep(Keep::All).instruction("say").files().unwrap();
    let mut seen = Vec::new();
    let survey = files.survey(|row| {
        seen.push(row.is_ok());
        Ok::<_, ReadError>(())
    });
    let survey = survey.unwrap();
    assert_eq!(seen, [true, false, true, true]);
    assert_eq!((survey.rows, survey.bad, survey.texts), (3, 1, 3));
    assert_eq!(survey.id, ColumnType::Text);
    let types = vec![ColumnType::Float, ColumnType::Json];
    assert_eq!(survey.columns, Columns { names: vec!["n".into(), "new".into()], types });
    assert_eq!(survey.unseen, ["say"]);

    #[derive(Debug)]
    struct Stopped;
    impl From<ReadError> for Stopped {
        fn from(_: ReadError) -> Self {
            Stopped
        }
    }
    let mut seen = 0;
    let stopped = files.survey(|_| {
        seen += 1;
        if seen < 2 { Ok(()) } else { Err(Stopped) }
    });
    assert!(stopped.is_err() && seen == 2);
}
