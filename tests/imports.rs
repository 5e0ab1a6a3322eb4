//! Layers: within a crate no file imports, by whatever way round, one that imports it. (Between crates the compiler sees to that.)
//!
//! Reads `use` statements, and paths that start with `crate` or `super`, of all source files; follows re-exports to the file in
//! which a name stands. What only tests have is left out, and so are paths that a macro makes for its caller (`$crate`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Imports that close a circle nevertheless: which file's, of which other, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("models/src/known.rs", "models/src/config.rs", "the name of the architecture and of its parts"),
    ("models/src/convert/judge.rs", "models/src/convert/mod.rs", "the error of a conversion"),
    ("models/src/gguf/array.rs", "models/src/gguf/value.rs", "a value may be an array, which is one of values"),
    ("models/src/gguf/write.rs", "models/src/gguf/mod.rs", "takes the metadata of a file that is there"),
    ("models/src/tokenizer/added.rs", "models/src/tokenizer/mod.rs", "the error of a tokenizer"),
    ("models/src/tokenizer/bpe.rs", "models/src/tokenizer/mod.rs", "the error of a tokenizer"),
    ("models/src/tokenizer/decode.rs", "models/src/tokenizer/mod.rs", "the vocabulary that it keeps"),
    ("models/src/tokenizer/json.rs", "models/src/tokenizer/mod.rs", "the vocabulary that it reads"),
    ("src/call.rs", "src/embedder.rs", "runs the passes of an embedder"),
];

/// A module path within a crate, from its root: empty for the root itself.
type Module = Vec<String>;

/// A file's imports: paths as they stand, and the name that each is known by; none for a path within code.
struct Source {
    file: String,
    imports: Vec<(Vec<String>, Option<String>)>,
}

/// The modules of a crate whose sources lie in a folder.
struct Crate(BTreeMap<Module, Source>);

impl Crate {
    fn read(root: &Path, folder: &str) -> Self {
        let mut modules = BTreeMap::new();
        let mut folders = vec![root.join(folder)];
        while let Some(at) = folders.pop() {
            for entry in std::fs::read_dir(&at).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let inside = path.strip_prefix(root.join(folder)).unwrap().with_extension("");
                    let mut module: Module = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
                    // `main.rs` is a crate of its own, over the library.
                    if module.iter().any(|part| part == "tests") || inside == Path::new("main") {
                        continue;
                    }
                    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
                        module.pop();
                    }
                    let file = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                    modules.insert(module, Source { file, imports: imports(&std::fs::read_to_string(&path).unwrap()) });
                }
            }
        }
        Self(modules)
    }

    /// The module that a path seen in `from` starts in, and what follows; `None` for other crates and for local names.
    fn start<'a>(&self, from: &Module, path: &'a [String]) -> Option<(Module, &'a [String])> {
        let mut module = from.clone();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => module.clear(),
            "self" => (),
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    module.pop();
                    rest = &rest[1..];
                }
                return Some((module, rest));
            }
            child => {
                module.push(child.to_owned());
                return self.0.contains_key(&module).then_some((module, &rest[1..]));
            }
        }
        Some((module, &rest[1..]))
    }

    /// The module in whose file the last name of a path stands.
    fn resolve(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        let (mut module, mut rest) = self.start(from, path)?;
        while let Some(next) = rest.first() {
            module.push(next.clone());
            if !self.0.contains_key(&module) {
                module.pop();
                break;
            }
            rest = &rest[1..];
        }
        let source = self.0.get(&module)?;
        let Some(name) = rest.first().filter(|_| depth < 8) else { return Some(module) };
        let again = source.imports.iter().find(|(_, known)| known.as_ref() == Some(name));
        Some(again.and_then(|(path, _)| self.resolve(&module, path, depth + 1)).unwrap_or(module))
    }

    /// From each file to those that it imports.
    fn graph(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let file = |module: &Module| self.0[module].file.as_str();
        let to = |module: &Module| {
            let found = self.0[module].imports.iter().filter_map(|(path, _)| self.resolve(module, path, 0));
            found.filter(|other| other != module).map(|other| file(&other)).collect()
        };
        // Lifetimes of files are those of the crate.
        self.0.keys().map(|module| (file(module), to(module))).collect()
    }
}

/// The imports of a source text.
fn imports(text: &str) -> Vec<(Vec<String>, Option<String>)> {
    let code = code_of(text).replace("pub(in crate", "pub(");
    let mut found = Vec::new();
    let mut rest = code.as_str();
    let mut others = String::new();
    while let Some(at) = rest.find("use ") {
        let (before, after) = rest.split_at(at);
        others.push_str(before);
        // Where a statement may start, and not within a text or a name.
        let starts = before.is_empty() || before.ends_with(char::is_whitespace);
        let before = before.trim_end();
        let starts =
            starts && (before.is_empty() || before.ends_with([';', '{', '}', ')', ']']) || before.ends_with("pub"));
        match after.find(';').filter(|_| starts) {
            Some(end) => {
                trees(&[], after[4..end].trim(), &mut found);
                rest = &after[end..];
            }
            None => rest = &after[4..],
        }
    }
    others.push_str(rest);
    for start in ["crate::", "super::"] {
        for (at, _) in others.match_indices(start) {
            if others[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | ':')) {
                continue;
            }
            let path = others[at..].split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':'))).next().unwrap();
            found.push((path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect(), None));
        }
    }
    found
}

/// The paths of a `use` tree after `prefix`.
fn trees(prefix: &[String], tree: &str, found: &mut Vec<(Vec<String>, Option<String>)>) {
    let (head, inside) = match tree.find('{') {
        Some(at) => (&tree[..at], Some(&tree[at + 1..tree.rfind('}').expect("a whole use")])),
        None => (tree, None),
    };
    let (head, alias) = head.split_once(" as ").map_or((head, None), |(head, alias)| (head, Some(alias.trim())));
    let mut path = prefix.to_vec();
    path.extend(head.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned));
    let Some(inside) = inside else {
        if path.last().is_some_and(|part| part == "self") && path.len() > 1 {
            path.pop();
        }
        let name = alias.map(str::to_owned).or_else(|| path.last().cloned());
        found.push((path, name));
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inside[start..at].trim().is_empty() {
                    trees(&path, inside[start..at].trim(), found);
                }
                start = at + 1;
            }
            _ => (),
        }
    }
}

/// A text without comments, and without what stands in literals: neither is code, whatever brackets are in it.
fn without_literals(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(c) = rest.chars().next() {
        let name = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let raw = rest.strip_prefix('r').filter(|_| !name).map(|after| after.trim_start_matches('#'));
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(inside) = raw.and_then(|after| after.strip_prefix('"')) {
            let hashes = rest.len() - inside.len() - 2;
            let end = format!("\"{}", "#".repeat(hashes));
            rest.len() - inside.len() + inside.find(&end).map_or(inside.len(), |at| at + end.len())
        } else if let Some(inside) = rest.strip_prefix('"') {
            let mut escaped = false;
            let ends = |c: char| {
                let was = std::mem::replace(&mut escaped, false);
                escaped = c == '\\' && !was;
                c == '"' && !was
            };
            1 + inside.find(ends).map_or(inside.len(), |at| at + 1)
        } else if c == '\'' && rest[1..].chars().nth(1) == Some('\'') {
            // Not a lifetime.
            2 + rest[1..].chars().next().map_or(0, char::len_utf8)
        } else if rest.starts_with("'\\") {
            3 + rest[3..].find('\'').map_or(0, |at| at + 1)
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        out.push(' ');
        rest = &rest[skipped..];
    }
    out
}

/// A text without comments, and without modules that only tests have.
fn code_of(text: &str) -> String {
    let text = without_literals(text);
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        // Up to the end of the item: a block, or a semicolon before it.
        let (open, semicolon) = (rest.find('{').unwrap_or(rest.len()), rest.find(';').unwrap_or(rest.len()));
        let mut end = semicolon.min(rest.len());
        if open < semicolon {
            let mut depth = 0;
            for (at, c) in rest[open..].char_indices() {
                depth += i32::from(c == '{') - i32::from(c == '}');
                if depth == 0 {
                    end = open + at;
                    break;
                }
            }
        }
        rest = rest.get(end + 1..).unwrap_or("");
    }
    out + rest
}

/// A circle through `start`, if there is one: its files, in the order of import.
fn circle<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut from = BTreeMap::from([(start, start)]);
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for next in &graph[at] {
            if *next == start {
                let mut path = vec![start, at];
                while path[path.len() - 1] != start {
                    path.push(from[path[path.len() - 1]]);
                }
                path.reverse();
                return Some(path);
            }
            if !from.contains_key(next) {
                from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

/// The circles of a crate that are no exceptions.
fn circles(of: &Crate) -> Vec<String> {
    let mut graph = of.graph();
    for (a, b, _) in EXCEPTIONS {
        if let Some(to) = graph.get_mut(a) {
            to.remove(b);
        }
    }
    let found = graph.keys().filter_map(|file| circle(&graph, file));
    // Each once, by its first file in the alphabet.
    found.filter(|path| path.iter().all(|file| path[0] <= *file)).map(|path| path.join(" → ")).collect()
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["kernels/src", "models/src", "src"] {
        let read = Crate::read(root, folder);
        assert!(read.graph().values().map(BTreeSet::len).sum::<usize>() > read.0.len(), "{folder}: imports are found");
        found.extend(circles(&read));
    }
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let module = |path: &str| -> Module { path.split("::").skip(1).map(str::to_owned).collect() };
    let of = |texts: &[(&str, &str)]| {
        let source = |path: &str, text: &str| Source { file: path.to_owned(), imports: imports(text) };
        Crate(texts.iter().map(|(path, text)| (module(path), source(path, text))).collect())
    };
    let straight = [
        ("c", "mod a; mod b; pub use a::A; // use b::B;"),
        ("c::a", "use crate::b::{self, inner::{B, C as D}};\n#[cfg(test)]\nmod tests { use crate::A; }"),
        (
            "c::b",
            "mod inner; pub use inner::B; const A: &str = r#\"\"}{{\"#; /* 'a */ const B: char = '{'; const C: &str = \"{\\\"//{\";\n#[cfg(test)] mod tests { use crate::A; const D: char = '\\''; const E: &str = \"}\"; fn f() { crate::A } }",
        ),
        ("c::b::inner", "use std::fmt; const X: &str = \"no use at all\";"),
    ];
    assert_eq!(circles(&of(&straight)), [""; 0]);
    for (path, text) in [
        // By another way of saying it each: a whole path, a re-export, a path within code, everything of a parent.
        ("c::b::inner", "use crate::a::A;"),
        ("c::b::inner", "pub(crate) use super::super::A;"),
        ("c::b::inner", "fn f() { crate::a::f() }"),
        ("c::b::inner", "use super::*;"),
        ("c::b", "pub use inner::B; fn f(_: super::A) {}"),
    ] {
        let planted = straight.map(|(p, t)| if p == path { (p, text) } else { (p, t) });
        assert_eq!(circles(&of(&planted)).len(), 1, "{path}: {text}");
    }
}
