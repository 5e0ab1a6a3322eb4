//! Why a request is not answered with vectors. What that looks like is the dialect's.

use crate::error::Error;
use std::time::Duration;

/// What went wrong, as a client would want to tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request makes no sense.
    Invalid,
    /// A text that has nothing in it.
    Empty,
    /// No key, or a wrong one.
    Unauthorized,
    /// A page or a name that may not ask.
    Forbidden,
    /// No such route or model.
    NotFound,
    /// The wrong verb.
    Method,
    /// More bytes than are taken.
    TooLarge,
    /// The sender is too slow.
    Slow,
    /// More than can be done now.
    Overloaded,
    /// It took too long.
    Timeout,
    /// Not yet, or no longer.
    Unavailable,
    /// Nothing that this server can do.
    NotImplemented,
    /// A fault that is not the client's.
    Internal,
}

impl Kind {
    /// The status that most dialects have for it.
    pub(crate) fn status(self) -> u16 {
        match self {
            Kind::Invalid | Kind::Empty => 400,
            Kind::Unauthorized => 401,
            Kind::Forbidden => 403,
            Kind::NotFound => 404,
            Kind::Method => 405,
            Kind::Slow => 408,
            Kind::TooLarge => 413,
            Kind::Overloaded => 429,
            Kind::Internal => 500,
            Kind::NotImplemented => 501,
            Kind::Unavailable => 503,
            Kind::Timeout => 504,
        }
    }
}

/// A request that is refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    /// A sentence: the item, the limit, the way out.
    pub(crate) message: String,
    /// The field that it is about, such as `input[17]`.
    pub(crate) param: Option<String>,
    /// OpenAI's word for it, where there is one.
    pub(crate) code: Option<&'static str>,
    /// When to try again.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// A field that makes no sense.
    pub(crate) fn field(name: impl Into<String>, message: impl Into<String>) -> Self {
        let name = name.into();
        Self { param: Some(name.clone()), ..Self::new(Kind::Invalid, format!("{name}: {}", message.into())) }
    }

    /// A list in which nothing is.
    pub(crate) fn empty_list(name: &str) -> Self {
        let message = format!("{name} cannot be empty: there is nothing in it");
        Self { param: Some(name.to_owned()), ..Self::new(Kind::Empty, message) }
    }

    pub(crate) fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    pub(crate) fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    /// An error of the library; `input` is the name that the dialect has for the texts, and a lone text is not numbered.
    pub(crate) fn of_error(error: &Error, input: &str, lone: bool) -> Self {
        let message = error.to_string();
        let kind = match error {
            Error::EmptyText { .. } => Kind::Empty,
            Error::Tokenize { .. }
            | Error::TooLong { .. }
            | Error::OverBudget { .. }
            | Error::Vocabulary { .. }
            | Error::Dimensions { .. }
            | Error::InstructionTooLong { .. }
            | Error::Instruction(_) => Kind::Invalid,
            Error::Gguf(_) => Kind::Unavailable,
            _ => Kind::Internal,
        };
        let Some(text) = error.text() else {
            let param = matches!(error, Error::Dimensions { .. }).then(|| "dimensions".to_owned());
            return Self { param, ..Self::new(kind, message) };
        };
        // Its place as the client counts.
        let place = if lone { input.to_owned() } else { format!("{input}[{text}]") };
        let message = match message.strip_prefix(&format!("text {}", text + 1)) {
            Some(rest) => format!("{place}{rest}"),
            None => message.replace(&format!("text {}", text + 1), &place),
        };
        let code = matches!(error, Error::TooLong { .. }).then_some("context_length_exceeded");
        Self { kind, message, param: Some(place), code, retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_library_name_the_item_as_the_client_counts() {
        let refusal = Refusal::of_error(&Error::EmptyText { text: 17 }, "input", false);
        assert_eq!(refusal.message, "input[17] is empty: there is nothing to embed");
        assert_eq!((refusal.kind, refusal.param.as_deref()), (Kind::Empty, Some("input[17]")));
        let refusal = Refusal::of_error(&Error::NonFinite { text: 0 }, "texts", false);
        assert!(refusal.message.starts_with("the vector of texts[0] is not finite"), "{}", refusal.message);
        assert_eq!(refusal.kind, Kind::Internal);
        let long = Error::TooLong { text: 0, tokens: 99, limit: 40 };
        let refusal = Refusal::of_error(&long, "input", true);
        assert!(refusal.message.starts_with("input has 99 tokens"), "{}", refusal.message);
        assert_eq!(refusal.code, Some("context_length_exceeded"));
        let wrong = Error::Dimensions { asked: 7, min: 32, max: 64 };
        assert_eq!(Refusal::of_error(&wrong, "input", true).param.as_deref(), Some("dimensions"));
    }
}
