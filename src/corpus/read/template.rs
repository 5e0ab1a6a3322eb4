//! What of a row is embedded: a field, or several put together.

use std::fmt;
use std::str::FromStr;

/// Where the text of a row comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextOf {
    /// A field, which must hold a text.
    Field(String),
    /// Several fields. Numbers, dates and the like are printed.
    Template(Template),
}

/// Fields, and what stands between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Stands as it is.
    Literal(String),
    /// The value of a field.
    Field(String),
}

/// Why a template is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A brace is not closed.
    #[error("the template {template:?} has a {{ without a }}: write {{{{ for a brace that is text")]
    Open {
        /// All of it.
        template: String,
    },
    /// A brace is not opened.
    #[error("the template {template:?} has a }} without a {{: write }}}} for a brace that is text")]
    Close {
        /// All of it.
        template: String,
    },
    /// Braces without a name in them.
    #[error("the template {template:?} has braces with no field in them: write {{{{}}}} if they are text")]
    Empty {
        /// All of it.
        template: String,
    },
    /// All rows would have the same text.
    #[error("the template {template:?} names no field, so all texts would be the same")]
    NoField {
        /// All of it.
        template: String,
    },
}

impl TextOf {
    /// The fields that a row must have.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        let (one, pieces) = match self {
            TextOf::Field(name) => (Some(name.as_str()), &[][..]),
            TextOf::Template(template) => (None, template.pieces()),
        };
        one.into_iter().chain(pieces.iter().filter_map(|piece| match piece {
            Piece::Field(name) => Some(name.as_str()),
            Piece::Literal(_) => None,
        }))
    }
}

impl fmt::Display for TextOf {
    /// The field's name; or the template, in which a field stands in braces.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let template = match self {
            TextOf::Field(name) => return f.write_str(name),
            TextOf::Template(template) => template,
        };
        template.pieces().iter().try_for_each(|piece| match piece {
            Piece::Field(name) => write!(f, "{{{name}}}"),
            Piece::Literal(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
        })
    }
}

impl FromStr for TextOf {
    type Err = TemplateError;

    /// A template if there is a brace in it, else the name of a field.
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.contains(['{', '}']) { text.parse().map(TextOf::Template) } else { Ok(TextOf::Field(text.into())) }
    }
}

impl Template {
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.0
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    /// `{name}` is the value of a field. `{{` and `}}` are braces, `\n` is a newline, `\t` a tab and `\\` a backslash; before
    /// anything else a backslash is one.
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let template = || text.to_owned();
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let next = rest[c.len_utf8()..].chars().next();
            let read = match (c, next) {
                ('{', Some('{')) | ('}', Some('}')) | ('\\', Some('\\')) => {
                    literal.push(c);
                    2
                }
                ('\\', Some(letter @ ('n' | 't'))) => {
                    literal.push(if letter == 'n' { '\n' } else { '\t' });
                    2
                }
                ('}', _) => return Err(TemplateError::Close { template: template() }),
                ('{', _) => {
                    let end = rest.find('}').ok_or_else(|| TemplateError::Open { template: template() })?;
                    match rest[1..end].trim() {
                        "" => return Err(TemplateError::Empty { template: template() }),
                        name if name.contains('{') => return Err(TemplateError::Open { template: template() }),
                        name => {
                            if !literal.is_empty() {
                                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                            }
                            pieces.push(Piece::Field(name.into()));
                        }
                    }
                    end + 1
                }
                (other, _) => {
                    literal.push(other);
                    other.len_utf8()
                }
            };
            rest = &rest[read..];
        }
        if !pieces.iter().any(|piece| matches!(piece, Piece::Field(_))) {
            return Err(TemplateError::NoField { template: template() });
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self(pieces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_what_stands_between_them() {
        let pieces = |text: &str| {
            let shown = text.parse::<Template>().unwrap().0.into_iter().map(|piece| match piece {
                Piece::Literal(text) => text,
                Piece::Field(name) => format!("<{name}>"),
            });
            shown.collect::<Vec<_>>()
        };
        assert_eq!(pieces(r"{title}\n{ body }"), ["<title>", "\n", "<body>"]);
        assert_eq!(pieces("{{ü}} {ö ä}{b}\\"), ["{ü} ", "<ö ä>", "<b>", "\\"]);
        assert_eq!(pieces(r"\\n\t\x{a}二"), ["\\n\t\\x", "<a>", "二"]);
        assert_eq!("title".parse(), Ok(TextOf::Field("title".into())));
        assert_eq!("{a} {b}".parse::<TextOf>().unwrap().fields().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_template_says_why() {
        let why = |text: &str| text.parse::<TextOf>().unwrap_err().to_string();
        assert_eq!(why("{a} {b"), "the template \"{a} {b\" has a { without a }: write {{ for a brace that is text");
        assert_eq!(why("{a {b}"), "the template \"{a {b}\" has a { without a }: write {{ for a brace that is text");
        assert_eq!(why("a} {b}"), "the template \"a} {b}\" has a } without a {: write }} for a brace that is text");
        assert_eq!(
            why("{a}{ }"),
            "the template \"{a}{ }\" has braces with no field in them: write {{}} if they are text"
        );
        assert_eq!(why("{{a}}"), "the template \"{{a}}\" names no field, so all texts would be the same");
    }
}
