//! What goes wrong between here and the hub.

use super::*;
#[cfg(unix)]
use common::PATIENCE;
use qembed_q::hub::{Hub, HubError, HubSettings};
use std::time::{Duration, Instant};

#[test]
fn what_broke_off_goes_on() {
    let (home, files) = (Home::new("cut"), published());
    let server = with_contents(&files, |_, count, mut good| {
        good.cut = (count < 2).then_some(40_000);
        good
    });
    let said = pulls(&home.run(&server.url, &["pull", "0.6b"]), &home.snapshot(Q8_0));
    assert!(said.contains("broke off after 40000 of") && said.contains("again in 1 s"), "{said}");
    assert_eq!(server.ranges(), [0, 40_000, 80_000]);
}

#[cfg(unix)]
#[test]
fn what_was_killed_goes_on() {
    let (home, files) = (Home::new("killed"), published());
    let stalls = with_contents(&files, |_, _, mut good| {
        (good.cut, good.stall) = (Some(50_000), true);
        good
    });
    for signal in ["KILL", "INT"] {
        let child = home.command(&stalls.url, &["pull", "0.6b"]).spawn().unwrap();
        let (part, begun) = (home.incomplete(&files[Q8_0]), Instant::now());
        let full = if signal == "KILL" { 50_000 } else { 100_000 };
        while part.metadata().map_or(0, |what| what.len()) < full {
            assert!(begun.elapsed() < PATIENCE, "it never came so far");
            std::thread::sleep(Duration::from_millis(5));
        }
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let output = child.wait_with_output().unwrap();
        if signal == "INT" {
            assert_eq!(output.status.code(), Some(130));
            assert!(said(&output).contains("`qembed-q pull 0.6b:Q8_0` goes on from there"), "{}", said(&output));
        }
        assert_eq!(part.metadata().unwrap().len(), full);
    }
    fails(&home.offline(&["inspect", "0.6b"]), &["qembed-q pull 0.6b:Q8_0"]);
    let server = good(&files);
    let said = pulls(&home.run(&server.url, &["pull", "0.6b"]), &home.snapshot(Q8_0));
    assert!(said.contains("goes on after 100000 bytes"), "{said}");
    assert_eq!((stalls.ranges(), server.ranges()), (vec![0, 50_000], vec![100_000]));
    assert_eq!(std::fs::read(home.snapshot(Q8_0)).unwrap(), files[Q8_0]);
}

/// Puts a part there as an earlier run has left it.
fn left(home: &Home, whole: &[u8], part: &[u8]) {
    let path = home.incomplete(whole);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, part).unwrap();
}

#[test]
fn a_server_that_gives_no_parts_is_asked_for_the_whole() {
    let files = published();
    let server = with_contents(&files, |_, _, mut good| {
        if good.status == 206 {
            good = Reply::new(200, published()[Q8_0].clone());
        }
        good
    });
    let home = Home::new("no-parts");
    left(&home, &files[Q8_0], &files[Q8_0][..1000]);
    let said = pulls(&home.run(&server.url, &["pull", "0.6b"]), &home.snapshot(Q8_0));
    assert!(said.contains("begins anew"), "{said}");
    // One that knows nothing of what was left.
    let server = with_contents(&files, |_, count, good| if count == 0 { Reply::new(416, "") } else { good });
    let home = Home::new("not-satisfiable");
    left(&home, &files[Q8_0], &files[Q8_0][..1000]);
    pulls(&home.run(&server.url, &["pull", "0.6b"]), &home.snapshot(Q8_0));
    assert_eq!(server.ranges(), [1000, 0]);
    // All of it, and too much.
    for (name, part) in [("all", files[Q8_0].clone()), ("more", [&files[Q8_0][..], b"more"].concat())] {
        let (home, server) = (Home::new(name), good(&files));
        left(&home, &files[Q8_0], &part);
        pulls(&home.run(&server.url, &["pull", "0.6b"]), &home.snapshot(Q8_0));
        assert_eq!(server.ranges().len(), usize::from(name == "more"));
    }
}

#[test]
fn what_is_not_what_was_announced_is_not_taken() {
    let files = published();
    let changed = |_: &Request, _: usize, mut good: Reply| {
        good.body[5000] ^= 1;
        good
    };
    let server = with_contents(&files, changed);
    let home = Home::new("digest");
    fails(&home.run(&server.url, &["pull", "0.6b"]), &["SHA-256", &sha256(&files[Q8_0]), "removed", "again"]);
    assert!(!home.incomplete(&files[Q8_0]).exists() && !home.snapshot(Q8_0).exists());
    // A part that was damaged on the disk.
    let home = Home::new("damaged");
    left(&home, &files[Q8_0], &[b"GGUF".to_vec(), vec![7; 1000]].concat());
    fails(&home.run(&good(&files).url, &["pull", "0.6b"]), &["SHA-256", "removed"]);
    pulls(&home.run(&good(&files).url, &["pull", "0.6b"]), &home.snapshot(Q8_0));

    for (name, change) in [("longer", 1), ("shorter", -1)] {
        let server = with_contents(&files, move |_, _, mut good| {
            let size = good.body.len().saturating_add_signed(change);
            good.body.resize(size, 0);
            good
        });
        let home = Home::new(name);
        let found = (files[Q8_0].len() as i64 + change as i64).to_string();
        fails(&home.run(&server.url, &["pull", "0.6b"]), &[&found, &files[Q8_0].len().to_string()]);
        assert!(!home.snapshot(Q8_0).exists());
    }
}

/// A page where a file should be, a page where the list should be, and a pointer.
#[test]
fn pages_and_pointers_are_called_so() {
    let files = published();
    const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Hotel Wi-Fi\tLogin</title></head></html>";
    let page = || Reply::new(200, PAGE).with("content-type", "text/html; charset=utf-8");
    let home = Home::new("page");
    let part = &files[Q8_0][..1000];
    left(&home, &files[Q8_0], part);
    for server in [Server::start(move |_| page()), with_contents(&files, move |_, _, _| page())] {
        fails(
            &home.run(&server.url, &["pull", "0.6b"]),
            &["web page (Hotel Wi-Fi\\tLogin)", "login page", "HTTPS_PROXY"],
        );
        assert_eq!(std::fs::read(home.incomplete(&files[Q8_0])).unwrap(), part, "what was there is kept");
    }
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    let home = Home::new("pointer");
    let server = with_contents(&files, move |_, _, _| Reply::new(200, pointer));
    fails(&home.run(&server.url, &["pull", "0.6b"]), &["pointer", "Git LFS"]);
    let server = with_contents(&files, |_, _, mut good| {
        good.body[..4].copy_from_slice(b"PK\x03\x04");
        good
    });
    fails(&home.run(&server.url, &["pull", "0.6b"]), &["does not begin as a GGUF file"]);
}

#[test]
fn refusals_say_what_helps() {
    let home = Home::new("refusals");
    let refused = |status: u16, code: &str, token: bool| {
        let code = code.to_owned();
        let server = Server::start(move |_| Reply::new(status, "{}").with("x-error-code", &code));
        let mut command = home.command(&server.url, &["pull", "some/model"]);
        if token {
            command.env("HF_TOKEN", "hf_secret");
        }
        command.output().unwrap()
    };
    fails(&refused(401, "GatedRepo", false), &["on request", "/some/model", "set HF_TOKEN"]);
    fails(&refused(403, "GatedRepo", true), &["on request", "has no access"]);
    fails(&refused(401, "", false), &["no such repository, or it is not public", "set HF_TOKEN"]);
    fails(&refused(401, "", true), &["token that was sent", "expired"]);
    fails(&refused(404, "RepoNotFound", true), &["some/model", "no such repository"]);
    fails(&refused(404, "RevisionNotFound", true), &["404", "/api/models/some/model/revision/main"]);
    let server = Server::start(|_| Reply::new(200, "{\"sha\": \"../../x\", \"siblings\": []}"));
    fails(&home.run(&server.url, &["pull", "some/model"]), &["not answered as the hub does", "no commit"]);
    let server = Server::start(|_| Reply::new(302, "").with("location", "/again"));
    fails(&home.run(&server.url, &["pull", "some/model"]), &["redirects again and again"]);
    let evil =
        [("../../evil-Q8_0.gguf".to_owned(), b"GGUF".to_vec()), ("/evil-Q8_0.gguf".to_owned(), b"GGUF".to_vec())];
    let server = Server::start(move |request| hub(request, "some/model", &evil.clone().into(), None));
    fails(&home.run(&server.url, &["pull", "some/model:q8_0"]), &["no model files at all"]);
}

#[test]
fn a_busy_server_is_asked_again() {
    let (home, files) = (Home::new("busy"), published());
    let count = std::sync::atomic::AtomicUsize::new(0);
    let all = files.clone();
    let server = Server::start(move |request| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Reply::new(429, "").with("retry-after", 2),
        2 | 5 => Reply::new(503, ""),
        _ => hub(request, REPOSITORY, &all, None),
    });
    let begun = Instant::now();
    let said = pulls(&home.run(&server.url, &["pull", "0.6b"]), &home.snapshot(Q8_0));
    assert!(said.contains("429: too many requests; it wants to be asked again in 2 s; again in 2 s"), "{said}");
    assert!(said.contains("503") && begun.elapsed() >= Duration::from_secs(3), "{said}");
    // One that wants an hour is not waited for.
    let server = Server::start(|_| Reply::new(429, "").with("retry-after", 3600));
    fails(&home.run(&server.url, &["pull", "0.6b"]), &["429", "3600 s", "try `qembed-q pull 0.6b:Q8_0` again"]);
}

#[test]
fn a_server_from_which_nothing_comes_is_not_waited_for() {
    let (home, files) = (Home::new("slow"), published());
    let server = with_contents(&files, |_, count, mut good| {
        (good.cut, good.stall) = if count == 0 { (Some(20_000), true) } else { (None, false) };
        good
    });
    let mut command = home.command(&server.url, &["pull", "0.6b"]);
    let said = pulls(&command.env("HF_HUB_DOWNLOAD_TIMEOUT", "1").output().unwrap(), &home.snapshot(Q8_0));
    assert!(said.contains("nothing has come for 1 s"), "{said}");
    assert_eq!(server.ranges(), [0, 20_000]);
    // One that does not even begin.
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_secs(30));
        Reply::new(200, "")
    });
    let begun = Instant::now();
    let mut command = home.command(&server.url, &["pull", "0.6b:f16"]);
    command.env("HF_HUB_DOWNLOAD_TIMEOUT", "1").env("HF_HUB_ETAG_TIMEOUT", "1");
    fails(&command.output().unwrap(), &["cannot be reached", "nothing has come for 1 s"]);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn without_a_network_it_is_said_so() {
    let home = Home::new("offline");
    fails(&home.offline(&["pull", "0.6b"]), &["HF_HUB_OFFLINE"]);
    // A port where nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fails(&home.run(&format!("http://{port}"), &["pull", "0.6b"]), &["cannot be reached", "refused"]);
    let no_host = home.run("http://no-such-host.invalid", &["pull", "0.6b"]);
    fails(&no_host, &["cannot be reached"]);
}

#[test]
fn a_disk_without_room_is_found_before_anything_comes() {
    let (home, files) = (Home::new("full"), published());
    let all = files.clone();
    let server = Server::start(move |request| hub(request, REPOSITORY, &all, None).set("x-linked-size", 1u64 << 60));
    fails(&home.run(&server.url, &["pull", "0.6b"]), &["bytes free", &(1u64 << 60).to_string(), "HF_HOME"]);
    assert!(server.ranges().is_empty());
}

/// By the library, whose pause can be set.
#[test]
fn what_never_comes_whole_is_given_up() {
    let (home, files) = (Home::new("truncated"), published());
    let server = with_contents(&files, |request, _, mut good| {
        if request.from() > 0 {
            good = Reply::new(200, published()[Q8_0].clone());
        }
        good.cut = Some(10_000);
        good
    });
    let mut settings = HubSettings::from_env().unwrap();
    (settings.endpoint, settings.offline, settings.pause) = (server.url.clone(), false, Duration::ZERO);
    settings.cache = home.0.join("hf/hub");
    let hub = Hub::new(&settings, None).unwrap();
    let offer = hub.look(&"0.6b".parse().unwrap()).unwrap();
    assert_eq!(offer.missing(), files[Q8_0].len() as u64);
    match hub.fetch(&offer, None) {
        Err(HubError::Short { found: 10_000, .. }) => {}
        other => panic!("{other:?}"),
    }
    // The first came further, and then five that did not.
    assert_eq!(server.ranges().len(), 5);
    assert_eq!(home.incomplete(&files[Q8_0]).metadata().unwrap().len(), 10_000);
    assert_eq!(offer.missing(), files[Q8_0].len() as u64 - 10_000);
}
