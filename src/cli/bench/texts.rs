//! The texts on which levels are compared.

use super::super::Failure;
use qembed_q::corpus::Lines;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Of each query, the passages that answer it and how well.
pub(super) type Relevant = Vec<Vec<(usize, f64)>>;

/// Language, query and the passage that answers it, a line each.
const BUNDLED: &str = include_str!("texts.tsv");

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Texts {
    /// As many as `relevant` has.
    pub(super) queries: Vec<String>,
    pub(super) passages: Vec<String>,
    pub(super) relevant: Relevant,
}

impl Texts {
    /// Our own set, in several languages.
    pub(super) fn bundled() -> Self {
        let mut texts = Texts::default();
        for (i, line) in BUNDLED.lines().enumerate() {
            let mut fields = line.split('\t').skip(1);
            let mut field = || fields.next().expect("three fields a line").replace("\\n", "\n");
            texts.queries.push(field());
            texts.passages.push(field());
            texts.relevant.push(vec![(i, 1.0)]);
        }
        texts
    }

    /// Each line of a file, empty ones left out.
    pub(super) fn lines(path: &Path) -> Result<Self, Failure> {
        let mut passages = Vec::new();
        each_line(path, |_, line| {
            passages.push(line.to_owned());
            Ok(())
        })?;
        if passages.len() < 2 {
            return Err(Failure::Input(format!("{}: at least two lines are needed, to be compared", path.display())));
        }
        Ok(Texts { passages, ..Texts::default() })
    }

    /// A folder in the layout of BEIR: `corpus.jsonl`, `queries.jsonl` and `qrels/test.tsv` (or another one there).
    pub(super) fn beir(folder: &Path) -> Result<Self, Failure> {
        let mut texts = Texts::default();
        let mut numbers = HashMap::new();
        each_record(&folder.join("corpus.jsonl"), |id, record| {
            let title = record["title"].as_str().filter(|title| !title.is_empty());
            let text = record["text"].as_str().unwrap_or_default();
            numbers.insert(id, texts.passages.len());
            texts.passages.push(title.map_or_else(|| text.into(), |title| format!("{title} {text}")));
        })?;
        let mut grades: HashMap<String, Vec<(usize, f64)>> = HashMap::new();
        let qrels = qrels(folder)?;
        each_line(&qrels, |number, line| {
            let fields: Vec<_> = line.split('\t').collect();
            let [query, passage, score] = fields[..] else {
                return Err("expected query, passage and score, between tabs".into());
            };
            match score.trim().parse::<f64>() {
                Ok(score) if score > 0.0 => {
                    let Some(passage) = numbers.get(passage) else {
                        return Err(format!("passage {passage:?} is not in corpus.jsonl"));
                    };
                    grades.entry(query.into()).or_default().push((*passage, score));
                    Ok(())
                }
                Ok(_) => Ok(()),
                Err(_) if number == 1 => Ok(()), // the head
                Err(_) => Err(format!("score {score:?} is no number")),
            }
        })?;
        each_record(&folder.join("queries.jsonl"), |id, record| {
            if let Some(grades) = grades.remove(&id) {
                texts.queries.push(record["text"].as_str().unwrap_or_default().into());
                texts.relevant.push(grades);
            }
        })?;
        if texts.queries.is_empty() {
            return Err(Failure::Input(format!("{}: no query of queries.jsonl is judged in it", qrels.display())));
        }
        Ok(texts)
    }
}

fn qrels(folder: &Path) -> Result<PathBuf, Failure> {
    let test = folder.join("qrels").join("test.tsv");
    if test.exists() {
        return Ok(test);
    }
    let entries = std::fs::read_dir(folder.join("qrels")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "tsv")).collect();
    found.sort();
    found.into_iter().next().ok_or_else(|| {
        Failure::Input(format!("{}: there is no qrels/test.tsv, which says what answers what", folder.display()))
    })
}

/// Calls `each` with the number, from 1, and the text of every line that is not empty.
fn each_line(path: &Path, mut each: impl FnMut(usize, &str) -> Result<(), String>) -> Result<(), Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::Input(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| fail(&error))?;
    for (i, line) in Lines::new(BufReader::new(file)).enumerate() {
        let line = line.map_err(|error| fail(&error))?;
        if !line.trim().is_empty() {
            each(i + 1, &line).map_err(|error| fail(&format_args!("line {}: {error}", i + 1)))?;
        }
    }
    Ok(())
}

fn each_record(path: &Path, mut each: impl FnMut(String, &serde_json::Value)) -> Result<(), Failure> {
    each_line(path, |_, line| {
        let record: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let id = record["_id"].as_str().ok_or("no \"_id\" with a string")?;
        if record["text"].as_str().is_none_or(str::is_empty) {
            return Err(format!("{id:?} has no \"text\""));
        }
        each(id.to_owned(), &record);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_bundled_set_is_whole() {
        for line in BUNDLED.lines() {
            assert_eq!(line.split('\t').filter(|field| !field.trim().is_empty()).count(), 3, "{line}");
        }
        let texts = Texts::bundled();
        let unique: HashSet<_> = texts.queries.iter().chain(&texts.passages).collect();
        assert_eq!(unique.len(), 2 * texts.queries.len());
        let languages: HashSet<_> = BUNDLED.lines().map(|line| line.split('\t').next()).collect();
        assert!(languages.len() >= 10, "{languages:?}");
    }

    #[test]
    fn a_folder_in_the_layout_of_beir() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("qrels")).unwrap();
        write("corpus.jsonl", "{\"_id\":\"a\",\"title\":\"T\",\"text\":\"one\"}\n\n{\"_id\":\"b\",\"text\":\"two\"}\n");
        write("queries.jsonl", "{\"_id\":\"q\",\"text\":\"which?\"}\n{\"_id\":\"unjudged\",\"text\":\"?\"}\n");
        write("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\tb\t2\nq\ta\t0\n");
        let texts = Texts::beir(folder.path()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(texts.passages, ["T one", "two"]);
        assert_eq!(texts.queries, ["which?"]);
        assert_eq!(texts.relevant, [vec![(1, 2.0)]]);
        // A byte order mark belongs to no file's first line.
        for name in ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"] {
            write(name, &format!("\u{feff}{}", std::fs::read_to_string(folder.path().join(name)).unwrap()));
        }
        let marked = Texts::beir(folder.path()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((marked.queries, marked.passages, marked.relevant), (texts.queries, texts.passages, texts.relevant));
        let lines = folder.path().join("lines");
        std::fs::write(&lines, "\u{feff}one\n\ntwo\n").unwrap();
        assert_eq!(Texts::lines(&lines).unwrap_or_else(|error| panic!("{error}")).passages, ["one", "two"]);
        std::fs::write(&lines, b"\xff\xfeo\0n\0e\0\n\0").unwrap();
        assert!(Texts::lines(&lines).unwrap_err().to_string().contains("UTF-16"));
        let error = |name: &str, text: &str| {
            write(name, text);
            Texts::beir(folder.path()).unwrap_err().to_string()
        };
        assert!(error("qrels/test.tsv", "h\th\th\nq\tz\t1\n").contains("line 2: passage \"z\""));
        assert!(error("qrels/test.tsv", "h\th\th\nx\ta\t1\n").contains("no query"));
        assert!(error("corpus.jsonl", "{\"_id\":\"a\",\"text\":\"\"}\n").contains("line 1: \"a\" has no \"text\""));
    }
}
