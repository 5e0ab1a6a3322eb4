//! Which of a repository's files make a model, and of what level it is. Nothing but names is known of them.

use crate::hub::name::{ModelName, Repository, Which, is_file};
use std::collections::BTreeMap;

/// Levels that are taken where none is said, the first that there is. Q4_K_M is what llama.cpp takes too.
pub(crate) const USUAL: [&str; 2] = ["Q4_K_M", "Q8_0"];

/// A model in a repository: its file, or all parts of a split one in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelFiles {
    /// By the file's name, or its folder's; in capital letters.
    pub(crate) level: Option<String>,
    pub(crate) files: Vec<String>,
}

/// The whole models among the files of a repository. Sets with a part missing are none.
pub(crate) fn models<'a>(files: impl IntoIterator<Item = &'a str>) -> Vec<ModelFiles> {
    let beside = |file: &str| ["mmproj", "imatrix"].iter().any(|word| file.to_ascii_lowercase().contains(word));
    let mut sets: BTreeMap<(&str, usize), BTreeMap<usize, &str>> = BTreeMap::new();
    for file in files.into_iter().filter(|file| is_file(file) && !beside(file)) {
        let (stem, part, parts) = split(file).unwrap_or((&file[..file.len() - ".gguf".len()], 1, 1));
        sets.entry((stem, parts)).or_default().insert(part, file);
    }
    let whole = |((stem, parts), files): ((&str, usize), BTreeMap<usize, &str>)| {
        let whole = files.len() == parts && files.keys().copied().eq(1..=parts);
        whole.then(|| ModelFiles { level: level(stem), files: files.into_values().map(str::to_owned).collect() })
    };
    sets.into_iter().filter_map(whole).collect()
}

/// Stem, number and count of `stem-00001-of-00003.gguf`.
fn split(file: &str) -> Option<(&str, usize, usize)> {
    let stem = &file[..file.len() - ".gguf".len()];
    let (rest, parts) = stem.rsplit_once("-of-")?;
    let (stem, part) = rest.rsplit_once('-')?;
    let number = |digits: &str| (digits.len() == 5).then(|| digits.parse().ok()).flatten();
    Some((stem, number(part)?, number(parts)?))
}

/// The level that a path without its ending says, in the last word of its name or else of its folder's.
fn level(stem: &str) -> Option<String> {
    stem.rsplit('/').take(2).find_map(|part| {
        let word = part.rsplit(['-', '.']).next()?.to_ascii_uppercase();
        let quantized = |rest: &str| {
            let (bits, kind) = rest.split_once('_').unwrap_or((rest, "K"));
            bits.len() == 1 && bits.bytes().all(|b| b.is_ascii_digit()) && !kind.is_empty()
        };
        let known = ["F16", "BF16", "F32"].contains(&word.as_str())
            || ["IQ", "TQ", "Q"].iter().find_map(|q| word.strip_prefix(q)).is_some_and(quantized);
        known.then_some(word)
    })
}

impl AsRef<ModelFiles> for ModelFiles {
    fn as_ref(&self) -> &ModelFiles {
        self
    }
}

/// The models that a name may mean: one, if it is plain.
pub(crate) fn matching<'a, M: AsRef<ModelFiles>>(models: &'a [M], which: &Which) -> Vec<&'a M> {
    let of = |level: &str| -> Vec<&M> {
        models.iter().filter(|model| model.as_ref().level.as_deref() == Some(level)).collect()
    };
    match which {
        Which::File(file) => models.iter().filter(|model| model.as_ref().files.contains(file)).collect(),
        Which::Level(level) => of(level),
        Which::Usual if models.len() > 1 => {
            USUAL.iter().map(|level| of(level)).find(|found| !found.is_empty()).unwrap_or(models.iter().collect())
        }
        Which::Usual => models.iter().collect(),
    }
}

/// The name of one of the models of a repository, by its level where no other is of that.
pub(crate) fn name<'a>(
    repository: &Repository,
    model: &ModelFiles,
    mut among: impl Iterator<Item = &'a ModelFiles>,
) -> ModelName {
    let which = match &model.level {
        Some(level) if among.all(|other| other.level != model.level || other == model) => Which::Level(level.clone()),
        _ => Which::File(model.files[0].clone()),
    };
    ModelName::new(repository.clone(), which)
}

/// Names of models of a repository, for a message.
pub(crate) fn listed<M: AsRef<ModelFiles>>(repository: &Repository, models: &[M]) -> Vec<String> {
    let all = || models.iter().map(AsRef::as_ref);
    all().map(|model| name(repository, model, all()).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str], which: Which) -> Vec<String> {
        matching(&models(files.iter().copied()), &which).into_iter().flat_map(|model| model.files.clone()).collect()
    }

    fn level_of(name: &str) -> Which {
        Which::Level(name.into())
    }

    #[test]
    fn levels_are_read_off_names() {
        for (stem, expected) in [
            ("Qwen3-Embedding-0.6B-Q8_0", Some("Q8_0")),
            ("Qwen3-Embedding-0.6B-f16", Some("F16")),
            ("model.q4_k_m", Some("Q4_K_M")),
            ("x-UD-Q4_K_XL", Some("Q4_K_XL")),
            ("x-IQ4_XS", Some("IQ4_XS")),
            ("BF16/x-v1", Some("BF16")),
            ("Q8_0/model", Some("Q8_0")),
            ("Qwen3-Embedding-0.6B", None),
            ("model", None),
            ("x-Qwen3", None),
        ] {
            assert_eq!(level(stem).as_deref(), expected, "{stem}");
        }
    }

    #[test]
    fn a_level_is_found_with_all_of_its_parts() {
        let files = [
            "README.md",
            "m-Q8_0.gguf",
            "m-f16-00002-of-00002.gguf",
            "m-f16-00001-of-00002.gguf",
            "Q6_K/m-00001-of-00003.gguf",
            "Q6_K/m-00003-of-00003.gguf",
            "mmproj-m-f16.gguf",
            "../../evil-Q2_K.gguf",
        ];
        assert_eq!(found(&files, level_of("Q8_0")), ["m-Q8_0.gguf"]);
        let both = ["m-f16-00001-of-00002.gguf", "m-f16-00002-of-00002.gguf"];
        assert_eq!(found(&files, level_of("F16")), both);
        assert_eq!(found(&files, Which::File(both[1].into())), both);
        // One part of three is missing.
        assert!(found(&files, level_of("Q6_K")).is_empty());
        assert!(found(&files, level_of("Q2_K")).is_empty());
        assert_eq!(found(&files, Which::Usual), ["m-Q8_0.gguf"]);
    }

    #[test]
    fn without_a_level_it_is_the_only_one_or_the_usual() {
        assert_eq!(found(&["m-Q2_K.gguf"], Which::Usual), ["m-Q2_K.gguf"]);
        assert_eq!(found(&["m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-F16.gguf"], Which::Usual), ["m-Q4_K_M.gguf"]);
        assert_eq!(found(&["m-Q2_K.gguf", "m-F16.gguf"], Which::Usual).len(), 2);
        assert_eq!(found(&["a-Q8_0.gguf", "b-Q8_0.gguf"], level_of("Q8_0")).len(), 2);
    }

    #[test]
    fn models_are_listed_by_names_that_find_them() {
        let models = models(["a-Q8_0.gguf", "b-Q8_0.gguf", "a-Q6_K.gguf", "c.gguf"]);
        let listed = listed(&Repository::new("o", "r").unwrap(), &models);
        assert_eq!(listed, ["o/r:Q6_K", "hf:o/r/a-Q8_0.gguf", "hf:o/r/b-Q8_0.gguf", "hf:o/r/c.gguf"]);
        for (name, model) in listed.iter().zip(&models) {
            assert_eq!(matching(&models, &name.parse::<ModelName>().unwrap().which), [model]);
        }
    }
}
