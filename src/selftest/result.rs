//! What a self-test finds.

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Not as it should be.
    Failed,
    /// Not looked at; the detail says why. It counts as not passed.
    Skipped,
}

/// One check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SelftestCheck {
    /// What was looked at.
    pub name: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was found, or what is wrong.
    pub detail: String,
}

impl SelftestCheck {
    pub(crate) fn new(name: impl Into<String>, found: Result<String, String>) -> Self {
        let outcome = if found.is_ok() { Outcome::Passed } else { Outcome::Failed };
        let (Ok(detail) | Err(detail)) = found;
        Self { name: name.into(), outcome, detail }
    }

    #[cfg(not(feature = "builtin"))]
    pub(crate) fn skipped(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Skipped, detail: why.into() }
    }
}

/// How fast the built-in model is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pace {
    /// Where: the device and its instruction set.
    pub device: String,
    /// Tokens of a text.
    pub tokens: usize,
    /// Texts of a call.
    pub texts: usize,
    /// Of the fastest call.
    pub tokens_per_second: f64,
}

/// What a self-test found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Selftest {
    /// Everything that was looked at.
    pub checks: Vec<SelftestCheck>,
    /// On the processor and, where that is tested, on another device.
    pub paces: Vec<Pace>,
}

impl Selftest {
    /// Whether everything was looked at and is as it should be.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.outcome == Outcome::Passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_has_not_passed() {
        let of = |outcomes: &[Outcome]| {
            let check = |outcome: &Outcome| SelftestCheck { name: "x".into(), outcome: *outcome, detail: "y".into() };
            Selftest { checks: outcomes.iter().map(check).collect(), paces: Vec::new() }.passed()
        };
        use Outcome::{Failed, Passed, Skipped};
        assert!(of(&[Passed]) && of(&[Passed, Passed]));
        assert!(![&[][..], &[Failed], &[Skipped], &[Passed, Skipped], &[Failed, Passed]].into_iter().any(of));
    }
}
