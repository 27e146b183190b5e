//! Runs foreign programs: the clients' own test programs, and etcdctl with a transcript that can be compared.
//!
//! Owns: time limits, captured output, and the masking of what two servers choose differently.
//! Called by: `tests/clients.rs` and `tests/etcdctl.rs`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::clock::{Deadline, pause_thread};
use crate::differential::answer::{mask_digits_after, mask_ports};

/// Longer than any single command of the suites needs.
pub const COMMAND_WAIT: Duration = Duration::from_secs(150);

/// Runs a program to its end and returns its output.
///
/// # Panics
/// If it does not start or does not end within `wait`; it is then killed.
pub fn run(program: &Path, arguments: &[&str], stdin: &str, wait: Duration) -> Output {
    let mut child = spawn(program, arguments);
    let mut input = child.stdin.take().expect("a pipe");
    // A program that does not read closes the pipe early; its output tells what it made of that.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    let id = child.id();
    let (done, ended) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let output = child.wait_with_output();
        let _ = done.send(());
        output
    });
    if ended.recv_timeout(wait).is_err() {
        // SAFETY: two integers, no memory; the child has not been reaped, its thread is still waiting for it.
        unsafe { libc::kill(id as libc::pid_t, libc::SIGKILL) };
        panic!("{} {arguments:?} did not end within {wait:?}", program.display());
    }
    waiting.join().expect("the waiting thread").expect("the output")
}

fn spawn(program: &Path, arguments: &[&str]) -> Child {
    Command::new(program)
        .args(arguments)
        .envs([("ETCDCTL_API", "3"), ("PYTHONUNBUFFERED", "1")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()))
}

/// etcdctl against one cluster, with a transcript.
pub struct Shell {
    program: PathBuf,
    endpoints: String,
    transcript: Vec<String>,
}

/// A command that goes on until it is stopped, such as `watch`.
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
    title: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody waits for its end otherwise: a watch whose server is gone tries for ever. Already ended is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Whether it has printed a line by now.
    pub fn has_line(&mut self) -> bool {
        self.seen.extend(self.lines.try_iter());
        !self.seen.is_empty()
    }

    /// Waits for a number of lines.
    ///
    /// # Panics
    /// If they do not come.
    pub fn await_count(&mut self, count: usize) {
        self.await_that(&format!("{count} lines"), |seen| seen.len() >= count);
    }

    /// Waits for a line that begins so.
    ///
    /// # Panics
    /// If it does not come.
    pub fn await_line(&mut self, begin: &str) {
        self.await_that(begin, |seen| seen.iter().any(|line| line.starts_with(begin)));
    }

    fn await_that(&mut self, what: &str, wanted: impl Fn(&[String]) -> bool) {
        let deadline = Deadline::after(Duration::from_secs(20));
        while !wanted(&self.seen) {
            match self.lines.recv_timeout(deadline.left()) {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("{}: only {:?}, no {what}", self.title, self.seen),
            }
        }
    }

    /// Asks it to stop, as Ctrl-C does.
    pub fn interrupt(&self) {
        // SAFETY: two integers, no memory; the child has not been reaped, `self.child` still stands for it.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGINT) };
    }
}

impl Shell {
    /// A shell for the given endpoints.
    pub fn new(program: PathBuf, endpoints: String) -> Self {
        Self { program, endpoints, transcript: Vec::new() }
    }

    /// Keelson is a client by its command `ctl`.
    fn first_argument(&self) -> Option<&'static str> {
        self.program.ends_with("keelson").then_some("ctl")
    }

    /// Other endpoints from now on.
    pub fn use_endpoints(&mut self, endpoints: String) {
        self.endpoints = endpoints;
    }

    /// Runs a command and notes its exit code and masked output; returns the plain standard output.
    pub fn run(&mut self, arguments: &[&str]) -> String {
        self.run_with(arguments, "")
    }

    /// Runs a command with input.
    pub fn run_with(&mut self, arguments: &[&str], stdin: &str) -> String {
        let (code, out, err) = self.quiet(arguments, stdin);
        let shown: Vec<&str> = arguments.iter().map(|argument| mask_free(argument)).collect();
        // Errors are for people; what counts is the server's text at their end.
        let errors: Vec<String> = err.lines().filter(|line| line.starts_with("Error:")).map(mask).collect();
        self.transcript.push(format!(
            "$ etcdctl {}\nexit {code:?}\n{}{}",
            mask(&shown.join(" ")),
            mask(&out),
            errors.join("\n")
        ));
        out
    }

    /// Runs a command without noting it.
    pub fn quiet(&self, arguments: &[&str], stdin: &str) -> (Option<i32>, String, String) {
        let endpoints = format!("--endpoints={}", self.endpoints);
        let first = self.first_argument().into_iter();
        let all: Vec<&str> = first.chain([endpoints.as_str()]).chain(arguments.iter().copied()).collect();
        let output = run(&self.program, &all, stdin, COMMAND_WAIT);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Runs a command and notes its JSON output without the named fields.
    pub fn run_json(&mut self, arguments: &[&str], without: &[&str]) -> serde_json::Value {
        let (code, out, _) = self.quiet(arguments, "");
        let mut value: serde_json::Value =
            serde_json::from_str(out.trim()).unwrap_or(serde_json::Value::Null);
        let plain = value.clone();
        drop_fields(&mut value, without);
        self.transcript.push(format!(
            "$ etcdctl {}\nexit {code:?}\n{}",
            mask(&arguments.join(" ")),
            mask(&value.to_string())
        ));
        plain
    }

    /// Starts a command that goes on.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let endpoints = format!("--endpoints={}", self.endpoints);
        let first = self.first_argument().into_iter();
        let all: Vec<&str> = first.chain([endpoints.as_str()]).chain(arguments.iter().copied()).collect();
        let mut child = spawn(&self.program, &all);
        let output = child.stdout.take().expect("a pipe");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Running { child, lines, seen: Vec::new(), title: arguments.join(" ") }
    }

    /// Waits for a number of lines of a running command.
    ///
    /// # Panics
    /// If they do not come.
    pub fn await_lines(&mut self, running: &mut Running, count: usize) {
        running.await_count(count);
    }

    /// Stops a running command and notes the lines it has printed.
    pub fn stop(&mut self, running: Running) {
        let lines: Vec<String> = running.seen.iter().map(|line| mask(line)).collect();
        self.transcript.push(format!("$ etcdctl {} (stopped)\n{}", mask(&running.title), lines.join("\n")));
    }

    /// Waits until a command answers what is wanted; not noted.
    ///
    /// # Panics
    /// If it never does.
    pub fn until(&self, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Deadline::after(Duration::from_secs(30));
        loop {
            let (_, out, err) = self.quiet(arguments, "");
            if wanted(&out) {
                return out;
            }
            assert!(!deadline.passed(), "etcdctl {arguments:?} still says {out} {err}");
            pause_thread(Duration::from_millis(50));
        }
    }

    /// What was done and answered, masked.
    pub fn transcript(&self) -> String {
        self.transcript.join("\n\n")
    }
}

/// Paths of this run are no part of a transcript.
fn mask_free(argument: &str) -> &str {
    if argument.starts_with('/') { "PATH" } else { argument }
}

fn drop_fields(value: &mut serde_json::Value, names: &[&str]) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|name, _| !names.contains(&name.as_str()));
            fields.values_mut().for_each(|field| drop_fields(field, names));
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| drop_fields(item, names)),
        _ => {}
    }
}

/// Masks ids (long runs of digits or hexadecimal digits), ports, terms and durations.
pub fn mask(text: &str) -> String {
    let ports = mask_digits_after(&mask_ports(text), "\"RaftTerm\" : ");
    let mut masked = String::with_capacity(ports.len());
    let mut word = String::new();
    for character in ports.chars().chain(std::iter::once('\n')) {
        if character.is_ascii_alphanumeric() || character == '.' || character == 'µ' {
            word.push(character);
            continue;
        }
        masked.push_str(mask_word(&word));
        word.clear();
        masked.push(character);
    }
    masked.pop();
    masked
}

fn mask_word(word: &str) -> &str {
    let id = word.len() >= 12 && word.chars().all(|character| character.is_ascii_hexdigit());
    let number = word.trim_end_matches(|character: char| character.is_alphabetic());
    let unit = &word[number.len()..];
    let duration =
        ["ns", "µs", "ms", "s"].contains(&unit) && number.contains('.') && number.parse::<f64>().is_ok();
    match () {
        () if id => "ID",
        () if duration => "TIME",
        () => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ports_and_durations_are_masked_and_the_rest_is_kept() {
        let text = "127.0.0.1:2379 is healthy: took = 1.234567ms, lease 694d81417acd4754 granted with TTL(100s), 3.7.3, 12";
        let want = "127.0.0.1:# is healthy: took = TIME, lease ID granted with TTL(100s), 3.7.3, 12";
        assert_eq!(mask(text), want);
    }
}
