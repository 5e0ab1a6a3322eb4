//! Programming languages whose syntax is known.

use text_splitter::{ChunkConfig, ChunkSizer, CodeSplitter};

/// A programming language whose syntax is known, so that code in it is cut between functions, types and statements. What does not parse
/// is cut around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Language {
    /// Go.
    Go,
    /// Java.
    Java,
    /// JavaScript, with JSX.
    JavaScript,
    /// Python, stubs included.
    Python,
}

/// Endings of names, in lower case.
const ENDINGS: [(&str, Language); 8] = [
    ("go", Language::Go),
    ("java", Language::Java),
    ("cjs", Language::JavaScript),
    ("js", Language::JavaScript),
    ("jsx", Language::JavaScript),
    ("mjs", Language::JavaScript),
    ("py", Language::Python),
    ("pyi", Language::Python),
];

impl Language {
    /// All of them.
    pub const ALL: [Language; 4] = [Language::Go, Language::Java, Language::JavaScript, Language::Python];

    /// That of files whose names have this ending, in lower case and without the dot.
    pub fn of_ending(ending: &str) -> Option<Self> {
        ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, language)| *language)
    }

    /// What cuts code in it.
    pub(crate) fn splitter<S: ChunkSizer>(self, config: ChunkConfig<S>) -> CodeSplitter<S> {
        let grammar = match self {
            Language::Go => tree_sitter_go::LANGUAGE,
            Language::Java => tree_sitter_java::LANGUAGE,
            Language::JavaScript => tree_sitter_javascript::LANGUAGE,
            Language::Python => tree_sitter_python::LANGUAGE,
        };
        // The one error there is, which the tests have not met.
        CodeSplitter::new(grammar, config).expect("a grammar that tree-sitter can read")
    }
}
