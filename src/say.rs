//! What is said to people, on standard error: lines, or objects of JSON for programs that keep logs.

use serde_json::{Value, json};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

static JSON: AtomicBool = AtomicBool::new(false);

/// From now on as JSON, or not.
pub(crate) fn as_json(json: bool) {
    JSON.store(json, Relaxed);
}

/// Whether it is said as JSON.
pub(crate) fn is_json() -> bool {
    JSON.load(Relaxed)
}

/// Says a line.
pub(crate) fn line(text: &str) {
    if is_json() {
        let text = text.strip_prefix("qembed-q: ").unwrap_or(text);
        object(json!({ "message": text }));
    } else {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Says an object, with the time in seconds since 1970.
pub(crate) fn object(mut object: Value) {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |time| (time.as_secs_f64() * 1000.0).round() / 1000.0);
    object["time"] = now.into();
    let _ = writeln!(std::io::stderr(), "{object}");
}
