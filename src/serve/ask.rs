//! A request for vectors, whatever dialect it came in.

use crate::options::{Empty, Prompt};
use crate::serve::fields::{Field, Fields, Item, Whole, items};
use crate::serve::refusal::{Kind, Refusal};
use crate::serve::words::{TokenIds, TooLong, task_names};
use crate::tasks::Task;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The form of a vector's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputType {
    Float,
    /// Floats in base64, little-endian.
    Base64,
    Int8,
    Uint8,
    Binary,
    Ubinary,
}

impl OutputType {
    pub(crate) const NAMES: &str = "float, base64, int8, uint8, binary, ubinary";

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Base64 => "base64",
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
            Self::Binary => "binary",
            Self::Ubinary => "ubinary",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "float" | "float32" => Some(Self::Float),
            "base64" => Some(Self::Base64),
            "int8" => Some(Self::Int8),
            "uint8" => Some(Self::Uint8),
            "binary" => Some(Self::Binary),
            "ubinary" => Some(Self::Ubinary),
            _ => None,
        }
    }
}

/// What a dialect takes for granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// Of texts that are too long.
    pub(crate) too_long: TooLong,
    /// Whether fields of other dialects than `truncate` say what becomes of them.
    pub(crate) lenient_length: bool,
    /// Whether a text may come as its tokens.
    pub(crate) token_ids: bool,
    pub(crate) empty: Empty,
}

/// A request for vectors. What it does not say is left to the model's name and the dialect.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) model: Option<String>,
    /// The field with the texts, as the client calls it.
    pub(crate) input: &'static str,
    pub(crate) items: Vec<Item>,
    /// One text, not in a list.
    pub(crate) lone: bool,
    pub(crate) prompt: Option<Prompt>,
    pub(crate) dimensions: Option<usize>,
    pub(crate) too_long: Option<TooLong>,
    /// No more tokens of a text than this.
    pub(crate) most_tokens: Option<usize>,
    pub(crate) normalize: bool,
    /// Of which types each vector is wanted; more than one with Cohere.
    pub(crate) outputs: Vec<OutputType>,
    pub(crate) priority: i64,
    pub(crate) token_ids: Option<TokenIds>,
    pub(crate) user: Option<String>,
    pub(crate) manners: Manners,
}

/// Some fields take one of several kinds of values.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Flag(bool),
    Number(f64),
    Word(String),
    Words(Vec<String>),
}

impl Ask {
    /// Reads a body.
    ///
    /// # Errors
    /// Names the field that makes no sense.
    pub(crate) fn new(fields: &Fields, manners: Manners, most_items: usize) -> Result<Self, Refusal> {
        let Some((input, value)) = fields.raw(Field::Texts) else {
            if fields.has("messages") {
                let message = "chat messages cannot be embedded here: send the text itself as `input`";
                return Err(Refusal::field("messages", message));
            }
            return Err(Refusal::field("input", "is missing: the text, or a list of texts, to embed"));
        };
        let read = |name, value| {
            let (items, lone) = items(name, value, most_items)?;
            if !manners.token_ids && items.iter().any(|item| matches!(item, Item::Ids(_))) {
                return Err(Refusal::field(name, "has to be a list of texts, not of tokens"));
            }
            Ok((items, lone))
        };
        let (texts, lone) = read(input, value)?;
        // Under a name that does not count they have to make sense all the same.
        for (name, value) in fields.all(Field::Texts).skip(1) {
            let (others, _) = read(name, value)?;
            let empty = |item: &Item| matches!(item, Item::Text(text) if text.is_empty());
            if others.is_empty() || manners.empty == Empty::Refuse && others.iter().any(empty) {
                return Err(Refusal::field(name, format!("has nothing in it, beside {input}")));
            }
        }
        Self::of(input, texts, lone, fields, manners)
    }

    /// Reads what a body says of how to embed texts.
    ///
    /// # Errors
    /// Names the field that makes no sense.
    pub(crate) fn of(
        input: &'static str,
        items: Vec<Item>,
        lone: bool,
        fields: &Fields,
        manners: Manners,
    ) -> Result<Self, Refusal> {
        let encoding = one_of(fields, Field::Encoding, OutputType::NAMES, OutputType::named)?;
        let outputs = output_types(fields)?;
        Ok(Self {
            model: fields.get::<String>(Field::Model)?.map(|(_, model)| model),
            input,
            items,
            lone,
            prompt: prompt(fields)?,
            dimensions: dimensions(fields)?,
            too_long: too_long(fields, manners)?,
            most_tokens: most_tokens(fields, manners)?,
            normalize: normalize(fields)?,
            outputs: match (&outputs[..], encoding) {
                ([] | [OutputType::Float], Some(encoding)) => vec![encoding],
                ([], None) => vec![OutputType::Float],
                (_, Some(OutputType::Base64)) => {
                    return Err(Refusal::field("encoding_format", "base64 is for float values only"));
                }
                _ => outputs,
            },
            priority: priority(fields)?,
            token_ids: one_of(fields, Field::TokenIds, "cl100k, model, reject", TokenIds::named)?,
            user: fields.get::<String>(Field::User)?.map(|(_, user)| user),
            manners,
        })
    }

    /// The one type that is wanted, where there cannot be several.
    ///
    /// # Errors
    /// Several.
    pub(crate) fn output(&self) -> Result<OutputType, Refusal> {
        match self.outputs[..] {
            [output] => Ok(output),
            _ => Err(Refusal::field("output_dtype", "is one type here: several at once are to be had at /v2/embed")),
        }
    }
}

/// A word of a list of words.
fn one_of<T>(
    fields: &Fields,
    field: Field,
    names: &str,
    named: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    let Some((name, word)) = fields.get::<String>(field)? else { return Ok(None) };
    let none = || Refusal::field(name, format!("{word:?} is none of {names}"));
    named(&word).ok_or_else(none).map(Some)
}

/// Instruction before task before kind of text before name of a prompt.
pub(crate) fn prompt(fields: &Fields) -> Result<Option<Prompt>, Refusal> {
    if let Some((_, instruction)) = fields.get::<String>(Field::Instruction)? {
        return Ok(Some(instructed(&instruction)));
    }
    for field in [Field::Task, Field::InputType, Field::PromptName] {
        if let Some(task) = one_of(fields, field, &task_names(), Task::named)? {
            return Ok(Some(task.into()));
        }
    }
    Ok(None)
}

/// An instruction that came with the template around it, as who pasted it before has it, is the same without.
fn instructed(text: &str) -> Prompt {
    let task = text.strip_prefix("Instruct:").unwrap_or(text).trim();
    let task = task.strip_suffix("Query:").unwrap_or(task).trim_end();
    if task.is_empty() { Prompt::Document } else { Prompt::Instruct(task.to_owned()) }
}

fn output_types(fields: &Fields) -> Result<Vec<OutputType>, Refusal> {
    let Some((name, value)) = fields.get::<Value>(Field::OutputType)? else { return Ok(Vec::new()) };
    let words = match value {
        Value::Word(word) => vec![word],
        Value::Words(words) => words,
        _ => Vec::new(),
    };
    let none = |word: &str| Refusal::field(name, format!("{word:?} is none of {}", OutputType::NAMES));
    let types = words.iter().map(|word| OutputType::named(word).ok_or_else(|| none(word)));
    let types: Vec<OutputType> = types.collect::<Result<_, _>>()?;
    if types.is_empty() { Err(Refusal::field(name, format!("is one of {}", OutputType::NAMES))) } else { Ok(types) }
}

fn too_long(fields: &Fields, manners: Manners) -> Result<Option<TooLong>, Refusal> {
    let side = match manners.lenient_length {
        true => one_of(fields, Field::Side, "left, right", TooLong::named)?,
        false => None,
    };
    let cut = side.unwrap_or(TooLong::Right);
    let value = match manners.lenient_length {
        true => fields.get::<Value>(Field::TooLong)?,
        false => fields.own::<Value>("truncate")?.map(|value| ("truncate", value)),
    };
    let Some((name, value)) = value else {
        // Who says how many tokens, or on which side to cut, wants it cut.
        let said = manners.lenient_length && (fields.raw(Field::TruncateTokens).is_some() || side.is_some());
        return Ok(said.then_some(cut));
    };
    match value {
        Value::Flag(true) => Ok(Some(cut)),
        Value::Flag(false) => Ok(Some(TooLong::Error)),
        Value::Word(word) => TooLong::named(&word)
            .map(Some)
            .ok_or_else(|| Refusal::field(name, format!("{word:?} is none of {}", TooLong::NAMES))),
        _ => Err(Refusal::field(name, format!("is one of {}, or true or false", TooLong::NAMES))),
    }
}

fn dimensions(fields: &Fields) -> Result<Option<usize>, Refusal> {
    let Some((name, Whole(n))) = fields.get(Field::Dimensions)? else { return Ok(None) };
    let number = usize::try_from(n).map(Some);
    number.map_err(|_| Refusal::field(name, format!("{n} is no number of dimensions")))
}

/// vLLM's `truncate_prompt_tokens`: −1 is the model's own limit.
fn most_tokens(fields: &Fields, manners: Manners) -> Result<Option<usize>, Refusal> {
    match fields.get::<Whole>(Field::TruncateTokens)?.filter(|_| manners.lenient_length) {
        None | Some((_, Whole(-1))) => Ok(None),
        Some((_, Whole(n @ 1..))) => Ok(Some(n as usize)),
        Some((name, Whole(n))) => {
            Err(Refusal::field(name, format!("{n} is no number of tokens: it is 1 or more, or -1 for the model's")))
        }
    }
}

/// True, or llama-server's 2, is to length 1; false, or −1, as it is.
fn normalize(fields: &Fields) -> Result<bool, Refusal> {
    match fields.get::<Value>(Field::Normalize)? {
        None => Ok(true),
        Some((_, Value::Flag(flag))) => Ok(flag),
        Some((_, Value::Number(2.0))) => Ok(true),
        Some((_, Value::Number(-1.0))) => Ok(false),
        Some((name, _)) => Err(Refusal::field(name, "is true or false, or 2 or -1: other norms are not to be had")),
    }
}

fn priority(fields: &Fields) -> Result<i64, Refusal> {
    match fields.get::<Value>(Field::Priority)? {
        None => Ok(0),
        Some((_, Value::Number(n))) if n.fract() == 0.0 && n.abs() <= 1e9 => Ok(n as i64),
        Some((_, Value::Word(word))) if word == "high" => Ok(-1),
        Some((_, Value::Word(word))) if word == "normal" => Ok(0),
        Some((_, Value::Word(word))) if word == "low" => Ok(1),
        Some((name, _)) => Err(Refusal::field(name, "is a whole number, lower first, or one of high, normal, low")),
    }
}

/// Texts of a field that is not that of a request for vectors, such as what to tokenize.
pub(crate) fn texts(name: &'static str, value: &RawValue, most: usize) -> Result<Vec<String>, Refusal> {
    let (items, _) = items(name, value, most)?;
    let text = |(i, item)| match item {
        Item::Text(text) => Ok(text),
        Item::Ids(_) => Err(Refusal::field(format!("{name}[{i}]"), "has to be a text")),
    };
    items.into_iter().enumerate().map(text).collect()
}

/// A field that has to be there.
pub(crate) fn required<'a, T: Deserialize<'a>>(fields: &Fields<'a>, name: &str) -> Result<T, Refusal> {
    let missing = || Refusal { param: Some(name.into()), ..Refusal::new(Kind::Invalid, format!("{name} is missing")) };
    fields.own(name)?.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Manners =
        Manners { too_long: TooLong::Error, lenient_length: false, token_ids: true, empty: Empty::Refuse };
    const LENIENT: Manners =
        Manners { too_long: TooLong::Right, lenient_length: true, token_ids: true, empty: Empty::EndToken };

    fn ask(body: &str, manners: Manners) -> Result<Ask, Refusal> {
        Ask::new(&Fields::parse(body.as_bytes())?, manners, 100)
    }

    #[test]
    fn null_says_nothing() {
        let nulls = r#"{"input": "a", "model": null, "dimensions": null, "encoding_format": null, "user": null,
            "instruction": null, "input_type": null, "task": null, "truncate": null, "normalize": null,
            "output_dtype": null, "priority": null, "token_ids": null}"#;
        let (with, without) = (ask(nulls, STRICT).unwrap(), ask(r#"{"input": "a"}"#, STRICT).unwrap());
        assert_eq!(format!("{with:?}"), format!("{without:?}"));
        assert_eq!((with.normalize, with.outputs, with.too_long), (true, vec![OutputType::Float], None));
    }

    #[test]
    fn an_instruction_is_before_a_task_before_a_kind() {
        let prompt = |fields: &str| ask(&format!(r#"{{"input": "a", {fields}}}"#), STRICT).unwrap().prompt;
        let instruct = |task: &str| Some(Prompt::Instruct(task.into()));
        assert_eq!(prompt(r#""instruction": "Find it", "task": "code", "input_type": "query""#), instruct("Find it"));
        assert_eq!(prompt(r#""instruction": "Instruct: Find it\nQuery:""#), instruct("Find it"), "with its template");
        assert_eq!(prompt(r#""instruction": """#), Some(Prompt::Document));
        assert_eq!(prompt(r#""task": "retrieval.passage", "input_type": "query""#), Some(Prompt::Document));
        for query in ["query", "search_query"] {
            assert_eq!(prompt(&format!(r#""input_type": "{query}""#)), prompt(r#""prompt_name": "query""#));
        }
        assert_eq!(prompt(r#""user": "me""#), None);
        let error = ask(r#"{"input": "a", "task": "cooking"}"#, STRICT).unwrap_err();
        assert!(error.message.contains("cooking") && error.message.contains("bitext"), "{}", error.message);
    }

    #[test]
    fn too_long_is_an_error_unless_truncate_says_otherwise() {
        let of = |fields: &str, manners| ask(&format!(r#"{{"input": "a", {fields}}}"#), manners).unwrap().too_long;
        for fields in [r#""truncation": true"#, r#""truncate_prompt_tokens": 7"#, r#""truncation_side": "left""#] {
            assert_eq!(of(fields, STRICT), None, "{fields}");
            assert!(of(fields, LENIENT).is_some(), "{fields}");
        }
        for (fields, wanted) in [
            (r#""truncate": true"#, TooLong::Right),
            (r#""truncate": false"#, TooLong::Error),
            (r#""truncate": "NONE""#, TooLong::Error),
            (r#""truncate": "START""#, TooLong::Left),
            (r#""truncate": "mean""#, TooLong::Mean),
        ] {
            assert_eq!(of(fields, STRICT), Some(wanted), "{fields}");
        }
        assert_eq!(of(r#""truncate": true, "truncation_direction": "Left""#, LENIENT), Some(TooLong::Left));
    }

    #[test]
    fn values_of_the_wrong_kind_are_named() {
        for (field, value) in [
            ("dimensions", "-1"),
            ("dimensions", r#""many""#),
            ("encoding_format", r#""hex""#),
            ("output_dtype", r#"["float", "int4"]"#),
            ("output_dtype", "[]"),
            ("truncate", "3"),
            ("normalize", r#""yes""#),
            ("priority", "1.5"),
            ("token_ids", r#""gpt2""#),
            ("model", "7"),
        ] {
            let error = ask(&format!(r#"{{"input": "a", "{field}": {value}}}"#), LENIENT).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(field), "{value}");
        }
        assert_eq!(ask(r#"{"model": "m"}"#, STRICT).unwrap_err().param.as_deref(), Some("input"));
        assert_eq!(ask(r#"{"messages": []}"#, STRICT).unwrap_err().param.as_deref(), Some("messages"));
        for other in ["[]", "[true]"] {
            let error = ask(&format!(r#"{{"inputs": ["a"], "texts": {other}}}"#), LENIENT).unwrap_err();
            assert!(error.param.is_some_and(|param| param.starts_with("texts")), "{other}");
        }
    }
}
