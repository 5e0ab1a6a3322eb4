//! Tasks by name, for those who would rather not word an instruction.

use crate::options::Prompt;

/// A kind of work with a name, and the instruction for it. [`Task::ALL`] lists them.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// Its name.
    pub name: &'static str,
    /// Other names for it, among them those of other programs and services.
    pub aliases: &'static [&'static str],
    /// What [`Prompt::Instruct`] says before a text; `None` for documents, which have no instruction.
    pub instruction: Option<&'static str>,
    /// Which texts it is for, a sentence.
    pub when: &'static str,
    /// How many dimensions are usual for it, of a model that has so many: a start, no limit. Vectors that are compared with one
    /// another have the same.
    pub dimensions: usize,
}

/// [`Task::ALL`], and the table in its documentation.
macro_rules! tasks {
    ($($name:literal [$($alias:literal)*] $instruction:literal, $when:literal, $dimensions:literal;)*) => {
        impl Task {
            /// All tasks.
            ///
            /// | name | when | instruction | dimensions | also |
            /// |---|---|---|---|---|
            $(#[doc = concat!(
                "| `", $name, "` | ", $when, " | ", $instruction, " | ", $dimensions, " |", $(" `", $alias, "`",)* " |"
            )])*
            pub const ALL: &[Task] = &[$(Task {
                name: $name,
                aliases: &[$($alias),*],
                instruction: if $instruction.is_empty() { None } else { Some($instruction) },
                when: $when,
                dimensions: $dimensions,
            }),*];
        }
    };
}

tasks! {
    "document" ["passage" "search_document" "retrieval.passage" "retrieval_document" "code.passage"]
        "",
        "What is to be found, whatever the task of the queries; it has no instruction.", 1024;
    "retrieval" ["query" "search_query" "retrieval.query" "retrieval_query"]
        "Given a web search query, retrieve relevant passages that answer the query",
        "Queries of a search over documents of any kind.", 1024;
    "qa" ["question_answering"]
        "Given a question, retrieve passages that contain the answer to it",
        "Whole questions, to be answered from documents.", 1024;
    "facts" ["fact_verification"]
        "Given a claim, retrieve passages that support or refute it",
        "Claims, to be checked against documents.", 1024;
    "legal" ["legal.query"]
        "Given the facts of a legal case, retrieve cases that turn on the same questions of law",
        "Cases that are compared with cases: on both sides.", 1024;
    "code" ["code.query" "code_retrieval_query"]
        "Given a description or a question of a programmer, retrieve code that does what is described or answers it",
        "Descriptions and questions in words, to find code.", 1024;
    "papers" ["scientific"]
        "Given a question of research or the title of a paper, retrieve abstracts of scientific papers about it",
        "Questions and titles, to find scientific papers.", 1024;
    "memory" ["conversation"]
        "Given the latest message of a conversation, retrieve earlier messages and notes that help to answer it",
        "Messages to an assistant, to find what it has been told before.", 512;
    "bitext" ["translation"]
        "Given a sentence, retrieve its translations into other languages",
        "Sentences and their translations: on both sides.", 512;
    "sts" ["similarity" "semantic_similarity" "text-matching"]
        "Given a sentence, retrieve sentences that say the same",
        "Sentences that are compared with one another: on both sides.", 256;
    "duplicates" ["deduplication"]
        "Given a question or a report, retrieve others that ask for or report the same thing",
        "Questions, tickets and reports, to find those that were there before: on both sides.", 256;
    "classification" []
        "Identify the category that the given text belongs to",
        "Texts whose vectors a classifier takes.", 256;
    "clustering" ["separation"]
        "Identify the topic of the given text",
        "Texts that are grouped by what they are about.", 256;
}

impl Task {
    /// The task of that name, or of which that is another name; in whatever case.
    pub fn named(name: &str) -> Option<&'static Task> {
        let is = |other: &&str| other.eq_ignore_ascii_case(name);
        Self::ALL.iter().find(|task| is(&task.name) || task.aliases.iter().any(is))
    }
}

impl From<&Task> for Prompt {
    fn from(task: &Task) -> Self {
        task.instruction.map_or(Prompt::Document, |instruction| Prompt::Instruct(instruction.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::DEFAULT_TASK;
    use std::collections::HashSet;

    #[test]
    fn a_name_is_that_of_one_task() {
        let names = Task::ALL.iter().flat_map(|task| [task.name].into_iter().chain(task.aliases.iter().copied()));
        let mut seen = HashSet::new();
        for name in names {
            assert!(seen.insert(name), "{name} stands there twice");
            assert_eq!(name, name.to_ascii_lowercase(), "other cases are found by this one");
            let task = Task::named(&name.to_ascii_uppercase()).unwrap();
            assert!(task.name == name || task.aliases.contains(&name), "{name}");
        }
        assert!(seen.len() > 25 && Task::named("retrieva").is_none() && Task::named("").is_none());
    }

    #[test]
    fn instructions_are_sentences_that_differ() {
        let instructions: Vec<_> = Task::ALL.iter().filter_map(|task| task.instruction).collect();
        assert_eq!(instructions.len() + 1, Task::ALL.len(), "only documents have none");
        assert_eq!(instructions.iter().collect::<HashSet<_>>().len(), instructions.len());
        for instruction in instructions {
            assert!(!instruction.contains('\n') && instruction.ends_with(char::is_alphabetic), "{instruction}");
        }
        assert!(Task::ALL.iter().all(|task| task.when.ends_with('.') && task.dimensions.is_multiple_of(32)));
    }

    #[test]
    fn a_task_is_a_prompt() {
        let prompt = |name| Prompt::from(Task::named(name).unwrap());
        for (name, is) in [
            ("query", DEFAULT_TASK),
            ("Retrieval.Query", DEFAULT_TASK),
            ("separation", "Identify the topic of the given text"),
        ] {
            assert_eq!(prompt(name), Prompt::Instruct(is.into()), "{name}");
        }
        assert_eq!(prompt("query").prefix(), Prompt::Query.prefix());
        for name in ["document", "search_document", "retrieval.passage", "code.passage"] {
            assert_eq!(prompt(name), Prompt::Document, "{name}");
        }
    }
}
