//! `qembed-q pull`, `qembed-q models`, and names in place of files, against a server that plays the hub.
#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod names;
mod server;

use common::{SHAPE_K, model, scratch};
use server::{COMMIT, Files, Reply, Request, Server, content, hub, sha256};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

const REPOSITORY: &str = "Qwen/Qwen3-Embedding-0.6B-GGUF";
const Q8_0: &str = "Qwen3-Embedding-0.6B-Q8_0.gguf";
const F16: &str = "Qwen3-Embedding-0.6B-f16.gguf";

/// What is published of the model: two levels.
fn published() -> Arc<Files> {
    let read = |level| std::fs::read(model(SHAPE_K, level)).unwrap();
    Arc::new(
        [("README.md".into(), b"# A model".to_vec()), (Q8_0.into(), read("Q8_0")), (F16.into(), read("F16"))].into(),
    )
}

/// The hub with these files and nothing wrong.
fn good(files: &Arc<Files>) -> Server {
    let files = files.clone();
    Server::start(move |request| hub(request, REPOSITORY, &files, None))
}

/// The hub, where contents are not as they should be; the second argument counts requests for them, from 0.
fn with_contents(
    files: &Arc<Files>,
    reply: impl Fn(&Request, usize, Reply) -> Reply + Send + Sync + 'static,
) -> Server {
    let (files, count) = (files.clone(), std::sync::atomic::AtomicUsize::new(0));
    Server::start(move |request| {
        let good = hub(request, REPOSITORY, &files, None);
        match request.is_content() {
            true => reply(request, count.fetch_add(1, std::sync::atomic::Ordering::SeqCst), good),
            false => good,
        }
    })
}

/// The program, with folders of its own and this endpoint.
struct Home(PathBuf);

impl Home {
    fn new(test: &str) -> Self {
        Self(scratch(test))
    }

    fn command(&self, endpoint: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qembed-q"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_uppercase();
            if text.starts_with("HF_") || text.contains("PROXY") || text.starts_with("HUGGING") {
                command.env_remove(name);
            }
        }
        command
            .env("HF_ENDPOINT", endpoint)
            .env("HF_HOME", self.0.join("hf"))
            .env("QEMBED_MODELS", self.0.join("made"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, endpoint: &str, arguments: &[&str]) -> Output {
        self.command(endpoint, arguments).output().unwrap()
    }

    /// Without a network.
    fn offline(&self, arguments: &[&str]) -> Output {
        self.command("http://127.0.0.1:9", arguments).env("HF_HUB_OFFLINE", "1").output().unwrap()
    }

    fn repository(&self) -> PathBuf {
        self.0.join("hf/hub/models--Qwen--Qwen3-Embedding-0.6B-GGUF")
    }

    fn snapshot(&self, file: &str) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT).join(file)
    }

    fn incomplete(&self, bytes: &[u8]) -> PathBuf {
        self.repository().join("blobs").join(format!("{}.incomplete", sha256(bytes)))
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a pull that must succeed has to say; its path is the only data.
#[track_caller]
fn pulls(output: &Output, path: &Path) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(Path::new(std::str::from_utf8(&output.stdout).unwrap().trim_end_matches(['\r', '\n'])), path);
    assert!(said.contains("pass  weights") && said.contains("pass  vectors"), "{said}");
    said
}

/// A failure with one line of words, after the checks if there are any, and without data.
#[track_caller]
fn fails(output: &Output, words: &[&str]) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty(), "data on standard output of a failure");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("qembed-q: "), "{said}");
    for word in words {
        assert!(last.contains(word), "{last:?} does not say {word:?}");
    }
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_model_is_fetched_into_the_cache_of_python_and_verified() {
    let (home, files) = (Home::new("good"), published());
    let server = good(&files);
    let path = home.snapshot(Q8_0);
    pulls(&home.run(&server.url, &["pull", "0.6b"]), &path);
    assert_eq!(std::fs::read(&path).unwrap(), files[Q8_0]);
    let blob = home.repository().join("blobs").join(sha256(&files[Q8_0]));
    if cfg!(unix) {
        assert_eq!(std::fs::read_link(&path).unwrap(), Path::new("../../blobs").join(blob.file_name().unwrap()));
        assert_eq!(std::fs::read(&blob).unwrap(), files[Q8_0]);
    }
    assert_eq!(std::fs::read_to_string(home.repository().join("refs/main")).unwrap(), COMMIT);
    assert!(!home.incomplete(&files[Q8_0]).exists());
    // Nothing comes a second time.
    let again = pulls(&home.run(&server.url, &["pull", "Qwen/Qwen3-Embedding-0.6B-GGUF:q8_0"]), &path);
    assert!(again.contains("is there already"), "{again}");
    assert_eq!(server.ranges(), [0]);
    let agent = server.requests()[0].header("user-agent").unwrap().to_owned();
    assert!(agent.starts_with("qembed-q/"), "{agent}");
}

#[test]
fn the_token_goes_to_the_endpoint_and_not_where_that_redirects() {
    let (home, files) = (Home::new("token"), published());
    let all = files.clone();
    let cdn = Server::start(move |request| content(request, &all[Q8_0]));
    let (all, url) = (files.clone(), cdn.url.clone());
    let server = Server::start(move |request| {
        // A repository that is called otherwise now.
        if let Some(rest) = request.path.strip_prefix("/Qwen/") {
            return Reply::new(307, "").with("location", format!("/new/{rest}"));
        }
        let mut request = request.clone();
        request.path = request.path.replace("/new/", "/Qwen/");
        hub(&request, REPOSITORY, &all, Some(&url))
    });
    let output = home.command(&server.url, &["pull", "0.6b"]).env("HF_TOKEN", "hf_secret").output().unwrap();
    let said = pulls(&output, &home.snapshot(Q8_0));
    assert!(!said.contains("hf_secret"), "{said}");
    let tokens = |server: &Server| -> Vec<_> {
        server.requests().iter().map(|request| request.header("authorization").map(str::to_owned)).collect()
    };
    assert!(tokens(&server).iter().all(|token| token.as_deref() == Some("Bearer hf_secret")), "{:?}", tokens(&server));
    assert_eq!(tokens(&cdn), [None]);
    assert!(cdn.requests()[0].path.ends_with("?signed=1"));
}

#[test]
fn a_split_model_is_fetched_whole() {
    let home = Home::new("split");
    // No real parts: what is looked at here is which files come.
    let part = |i: u8| [b"GGUF".to_vec(), vec![i; 1000 * usize::from(i)]].concat();
    let name = |i: u8| format!("sub dir/m-Q6_K-0000{i}-of-00003.gguf");
    let files: Files = (1..=3).map(|i| (name(i), part(i))).collect();
    let in_url: Files = files.iter().map(|(name, bytes)| (name.replace(' ', "%20"), bytes.clone())).collect();
    let all = files.clone();
    let server = Server::start(move |request| {
        let files = if request.path.starts_with("/api/") { &all } else { &in_url };
        hub(request, "some/model", files, None)
    });
    let output = home.run(&server.url, &["pull", "hf:some/model/sub dir/m-Q6_K-00002-of-00003.gguf"]);
    let said = fails(&output, &["checks failed", "stays where it is", "qembed-q models rm \"hf:some/model/"]);
    assert!(said.contains("FAIL"), "{said}");
    let snapshot = home.0.join("hf/hub/models--some--model/snapshots").join(COMMIT);
    for (name, bytes) in &files {
        assert_eq!(&std::fs::read(snapshot.join(name)).unwrap(), bytes, "{name}");
    }
}

#[test]
fn two_at_once_do_not_hurt_each_other() {
    let (home, files) = (Home::new("two"), published());
    let server = with_contents(&files, |_, _, mut good| {
        good.slow = Some(std::time::Duration::from_millis(20));
        good
    });
    let start = || home.command(&server.url, &["pull", "0.6b:f16"]).spawn().unwrap();
    let outputs = [start(), start()].map(|child| child.wait_with_output().unwrap());
    let said: Vec<_> = outputs.iter().map(|output| pulls(output, &home.snapshot(F16))).collect();
    assert_eq!(std::fs::read(home.snapshot(F16)).unwrap(), files[F16]);
    assert_eq!(server.ranges(), [0], "{said:?}");
    assert_eq!(said.iter().filter(|said| said.contains("another process")).count(), 1, "{said:?}");
}

#[test]
fn a_level_that_is_not_published_is_made() {
    let (home, files) = (Home::new("make"), published());
    let server = good(&files);
    fails(
        &home.run(&server.url, &["pull", "0.6b:q4_k_m"]),
        &["Q4_K_M is not published; there are: 0.6b:Q8_0, 0.6b:F16", "made here of F16", "(--yes)"],
    );
    assert!(server.ranges().is_empty());
    let path = home.0.join("made").join(REPOSITORY).join(&sha256(&files[F16])[..12]);
    let path = path.join("Qwen3-Embedding-0.6B-Q4_K_M.gguf");
    let made = pulls(&home.run(&server.url, &["pull", "0.6b:q4_k_m", "--yes"]), &path);
    assert!(made.contains("Q4_K_M, as llama.cpp mixes it") && made.contains("qembed-q models rm 0.6b:F16"), "{made}");
    assert_eq!(server.ranges(), [0]);
    // It is found, with and without the network; `0.6b` means what it meant.
    let again = pulls(&home.run(&server.url, &["pull", "0.6b:Q4_K_M"]), &path);
    assert!(again.contains("made here of F16"), "{again}");
    assert_eq!(home.offline(&["inspect", "0.6b:q4_k_m"]).status.code(), Some(0));
    fails(&home.offline(&["inspect", "0.6b"]), &["`qembed-q pull 0.6b:Q8_0`"]);
}

/// What the hub knows of a level, it lists.
#[test]
fn a_level_that_cannot_be_had_is_said_with_those_that_can() {
    let home = Home::new("levels");
    let server = good(&published());
    for level in ["0.6b:q9", "0.6b:bf16", "hf:Qwen/Qwen3-Embedding-0.6B-GGUF/other.gguf"] {
        fails(&home.run(&server.url, &["pull", level]), &["there are: 0.6b:Q8_0, 0.6b:F16"]);
    }
    let server = Server::start(|request| {
        let file = |name: &str| (name.to_owned(), b"GGUF".to_vec());
        hub(request, "some/model", &[file("a-Q5_0.gguf"), file("a-Q6_K.gguf")].into(), None)
    });
    let several = ["may be any of: some/model:Q5_0, some/model:Q6_K", "`qembed-q pull some/model:Q5_0`"];
    fails(&home.run(&server.url, &["pull", "some/model"]), &several);
    assert!(server.ranges().is_empty());
}
