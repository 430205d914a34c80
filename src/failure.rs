//! How a command ends badly: one line on stderr, and an exit code that scripts rely on.

use std::{fmt, process::ExitCode};

/// Why a command did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was tried and failed.
    Failed,
    /// It was asked for wrongly.
    Usage,
    /// What was named is not there.
    NotFound,
    /// Policy, rights or safety forbid it.
    Refused,
}

/// A kind and one line: what, why, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    message: String,
}

/// What every command gives back.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// Exit code 1.
    pub fn failed(message: impl fmt::Display) -> Failure {
        Failure::new(Kind::Failed, message)
    }

    /// Exit code 2.
    pub fn usage(message: impl fmt::Display) -> Failure {
        Failure::new(Kind::Usage, message)
    }

    /// Exit code 3.
    pub fn not_found(message: impl fmt::Display) -> Failure {
        Failure::new(Kind::NotFound, message)
    }

    /// Exit code 4.
    pub fn refused(message: impl fmt::Display) -> Failure {
        Failure::new(Kind::Refused, message)
    }

    fn new(kind: Kind, message: impl fmt::Display) -> Failure {
        let message = message.to_string();
        let lines: Vec<&str> = message
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        Failure {
            kind,
            message: lines.join("; "),
        }
    }

    /// As INTERFACES tells it.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::Refused => 4,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The known name nearest to `name`, if one is near enough to have been meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Jaro–Winkler forgives what fingers do: swapped and doubled letters, a wrong ending.
    const NEAR: f64 = 0.7;
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// ` (did you mean …?)`, or nothing.
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!(" (did you mean {near}?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::failed("one\n\n  two\n");
        assert_eq!(failure.to_string(), "one; two");
    }

    #[test]
    fn the_nearest_name_is_found_and_nonsense_is_not() {
        let known = ["cn-beijing", "cn-shanghai", "hk"];
        assert_eq!(nearest("cn-bejing", known), Some("cn-beijing"));
        assert_eq!(nearest("xyzzy", known), None);
        assert_eq!(hint("kh", ["hq"]), "");
    }
}
