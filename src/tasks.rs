//! Stub.
use crate::options::Prompt;

/// x
#[derive(Debug)]
pub struct Task { /// x
pub name: &'static str }
impl Task {
    /// x
    pub const ALL: &[Task] = &[Task { name: "query" }, Task { name: "document" }];
    /// x
    pub fn named(name: &str) -> Option<&'static Task> { Self::ALL.iter().find(|t| t.name == name) }
    /// x
    pub fn names() -> String { "query, document".into() }
}
impl From<&Task> for Prompt { fn from(t: &Task) -> Prompt { if t.name == "query" { Prompt::Query } else { Prompt::Document } } }
