//! Why a command failed: etcdctl's exit code and line, then what was tried, seen, and can be done.
//!
//! Owns: exit codes. Invariant: a failure of the network or the server carries a remedy. Called by: everything here.
//! Source: etcd pkg/cobrautl/error.go for the codes.

/// Something failed that has no code of its own.
pub(crate) const ERROR: u8 = 1;
/// The connection or the login failed.
pub(crate) const CONNECTION: u8 = 2;
/// Standard input held something else than a transaction or a watch.
pub(crate) const INPUT: u8 = 3;
/// A flag has a value that is not supported.
pub(crate) const FEATURE: u8 = 4;
/// What was going on has been ended.
pub(crate) const INTERRUPTED: u8 = 5;
/// Wrong arguments.
pub(crate) const ARGUMENTS: u8 = 128;

/// A failed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    message: String,
    /// Label and text, such as "tried" and what was tried.
    notes: Vec<(&'static str, String)>,
}

impl Failure {
    /// A failure with etcdctl's exit code and line.
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), notes: Vec::new() }
    }

    /// Wrong arguments.
    pub(crate) fn arguments(message: impl Into<String>) -> Self {
        Self::new(ARGUMENTS, message)
    }

    /// An end with this code and without a word: all has been said.
    pub(crate) fn quiet(code: u8) -> Self {
        Self::new(code, "")
    }

    /// Adds what was tried.
    pub(crate) fn tried(self, text: impl Into<String>) -> Self {
        self.note("tried", text)
    }

    /// Adds what was seen.
    pub(crate) fn seen(self, text: impl Into<String>) -> Self {
        self.note("seen", text)
    }

    /// Adds what to do.
    pub(crate) fn help(self, text: impl Into<String>) -> Self {
        self.note("help", text)
    }

    fn note(mut self, label: &'static str, text: impl Into<String>) -> Self {
        self.notes.push((label, text.into()));
        self
    }

    /// The same with words before the message, as etcdctl wraps errors.
    pub(crate) fn wrapped(mut self, before: &str, after: &str) -> Self {
        self.message = format!("{before}{}{after}", self.message);
        self
    }

    /// The same with another exit code.
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// The first line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Label and text of each further line.
    pub fn notes(&self) -> &[(&'static str, String)] {
        &self.notes
    }

    /// All of it, as people read it.
    pub fn text(&self) -> String {
        let mut text =
            if self.message.is_empty() { String::new() } else { format!("Error: {}\n", self.message) };
        for (label, note) in &self.notes {
            text += &format!("{label:>7}: {}\n", note.replace('\n', "\n         "));
        }
        text
    }

    /// Writes it to standard error.
    pub(crate) fn report(&self) {
        eprint!("{}", self.text());
    }
}
