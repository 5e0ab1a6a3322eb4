//! Names in place of files, and what is listed and removed.

use super::*;

/// A home into which a level was pulled.
fn pulled(test: &str, levels: &[&str]) -> Home {
    let home = Home::new(test);
    let server = good(&published());
    for level in levels {
        assert_eq!(home.run(&server.url, &["pull", &format!("0.6b:{level}"), "--yes"]).status.code(), Some(0));
    }
    home
}

#[test]
fn a_name_is_taken_wherever_a_file_is() {
    let home = pulled("everywhere", &["q8_0", "f16"]);
    let out = home.0.join("out.gguf");
    let out = out.to_str().unwrap();
    let texts = home.0.join("texts.txt");
    std::fs::write(&texts, "a\nb c\nd e f\n").unwrap();
    let texts = texts.to_str().unwrap();
    for arguments in [
        &["--gguf", "0.6b", "--dim", "32", "hello"][..],
        &["--gguf", "hf:Qwen/Qwen3-Embedding-0.6B-GGUF/Qwen3-Embedding-0.6B-Q8_0.gguf", "hello"],
        &["similarity", "--gguf", "Qwen/Qwen3-Embedding-0.6B-GGUF", "a", "b"],
        &["info", "--gguf", "0.6b:F16"],
        &["verify", "--gguf", "0.6b:q8_0"],
        &["inspect", "0.6b"],
        &["quantize", "0.6b:f16", out, "--type", "Q4_0"],
        &["bench", "0.6b", "0.6b:f16", "--reference", "0.6b:f16", "--texts", texts, "--tokens", "16", "--rounds", "1"],
        &["bench", "--from", "0.6b:f16", "--levels", "Q4_0", "--texts", texts, "--tokens", "16", "--rounds", "1"],
    ] {
        let output = home.offline(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", said(&output));
    }
    #[cfg(feature = "serve")]
    {
        let output = home.offline(&["serve", "--check", "--port", "0", "--gguf", "small=0.6b,dimensions=64"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    // Nothing but `pull` asks anybody.
    let server = good(&published());
    let other = Home::new("nobody-asked");
    let unknown = "owner/model:Q8_0";
    fails(
        &other.run(&server.url, &["info", "--gguf", unknown]),
        &["owner/model:Q8_0: no such file", "`qembed-q pull owner/model:Q8_0`"],
    );
    for arguments in [
        &["--gguf", "0.6b", "hello"][..],
        &["inspect", "0.6b"],
        &["quantize", "0.6b", out, "--type", "Q4_0"],
        &["bench", "0.6b"],
        &["verify", "--gguf", "0.6b"],
        &["models"],
        #[cfg(feature = "serve")]
        &["serve", "--gguf", "0.6b"],
    ] {
        let output = other.run(&server.url, arguments);
        if arguments[0] != "models" {
            fails(&output, &["0.6b: no such file", "`qembed-q pull 0.6b:Q8_0`"]);
        }
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_file_comes_before_a_name() {
    let home = Home::new("file-first");
    std::fs::create_dir_all(home.0.join("owner")).unwrap();
    for name in ["0.6b", "owner/model"] {
        std::fs::copy(model(SHAPE_K, "Q8_0"), home.0.join(name)).unwrap();
        let output = home.command("http://127.0.0.1:9", &["inspect", name]).current_dir(&home.0).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    // What cannot be a name is a file that is not there.
    let output = fails(&home.offline(&["inspect", "models/q8.gguf"]), &["models/q8.gguf"]);
    assert!(!output.contains("pull"), "{output}");
}

#[test]
fn models_are_listed_and_removed_with_what_only_they_use() {
    let home = pulled("listed", &["q8_0", "q4_k_m"]);
    let list = || -> Vec<(String, String, u64, String)> {
        let output = home.offline(&["models", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        rows.iter()
            .map(|row| {
                (text(&row["name"]), text(&row["origin"]), row["bytes"].as_u64().unwrap(), text(&row["files"][0]))
            })
            .collect()
    };
    let names = || list().into_iter().map(|(name, origin, ..)| format!("{name} {origin}")).collect::<Vec<_>>();
    let all = ["0.6b:Q8_0 hub", "0.6b:F16 hub", "0.6b:Q4_K_M made here"];
    assert_eq!(names(), all);
    for (_, _, bytes, path) in list() {
        assert_eq!(std::fs::metadata(path).unwrap().len(), bytes);
    }
    let table = String::from_utf8(home.offline(&["models"]).stdout).unwrap();
    assert!(all.iter().all(|row| table.contains(row.split(' ').next().unwrap())) && table.contains("KiB"), "{table}");

    // Nothing goes without a word.
    fails(&home.offline(&["models", "rm", "0.6b:f16"]), &["would be removed (--yes)"]);
    fails(&home.offline(&["models", "rm", "0.6b:q6_k", "--yes"]), &["0.6b:Q6_K is not on this machine"]);
    assert_eq!(names(), all);
    // A file that is not a model's, of another commit, which has one of the blobs too.
    let files = published();
    let (q8, f16) = (sha256(&files[Q8_0]), sha256(&files[F16]));
    let other = home.repository().join("snapshots/feed");
    std::fs::create_dir_all(&other).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(format!("../../blobs/{q8}"), other.join("kept.bin")).unwrap();
    for name in ["0.6b:q8_0", "0.6b:f16"] {
        let output = home.offline(&["models", "rm", name, "--yes"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    assert_eq!(names(), all[2..]);
    let blobs = home.repository().join("blobs");
    assert!(!blobs.join(f16).exists());
    if cfg!(unix) {
        assert_eq!(std::fs::read(other.join("kept.bin")).unwrap(), files[Q8_0]);
    }
    let output = home.offline(&["models", "rm", "0.6b:q4_k_m", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&home.offline(&["models"])).contains("no models in"));
    assert!(!home.0.join("made/Qwen").exists());
}

#[test]
fn a_repository_without_anything_left_is_gone() {
    let home = pulled("gone", &["q8_0"]);
    let part = home.repository().join("blobs/abc.incomplete");
    std::fs::write(&part, "GGUF").unwrap();
    let rows = String::from_utf8(home.offline(&["models"]).stdout).unwrap();
    assert!(rows.contains("not whole"), "{rows}");
    assert_eq!(home.offline(&["models", "rm", "0.6b", "--yes"]).status.code(), Some(0));
    assert!(part.exists(), "another download may want it");
    let output = home.offline(&["models", "rm", "--unfinished", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!home.repository().exists());
}

#[test]
fn what_is_being_fetched_is_not_removed() {
    let home = pulled("locked", &["q8_0"]);
    let lock = home.0.join("hf/hub/.locks/models--Qwen--Qwen3-Embedding-0.6B-GGUF");
    let lock = std::fs::File::open(lock.join(format!("{}.lock", sha256(&published()[Q8_0])))).unwrap();
    lock.lock().unwrap();
    fails(&home.offline(&["models", "rm", "0.6b", "--yes"]), &["another process"]);
    assert!(home.snapshot(Q8_0).exists());
}

/// A name is what the latest commit known here has, for Python and here.
#[test]
fn models_of_other_commits_are_listed_and_not_found() {
    let home = pulled("commits", &["q8_0"]);
    std::fs::write(home.repository().join("refs/main"), "feedfeed").unwrap();
    fails(&home.offline(&["inspect", "0.6b"]), &["qembed-q pull 0.6b:Q8_0"]);
    let rows = String::from_utf8(home.offline(&["models"]).stdout).unwrap();
    assert!(rows.contains("another commit"), "{rows}");
    // It is not downloaded again.
    let server = good(&published());
    pulls(&home.run(&server.url, &["pull", "0.6b"]), &home.snapshot(Q8_0));
    assert!(server.ranges().is_empty());
}
