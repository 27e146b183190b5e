//! Starts the program under test, under its own name or through a link.
//!
//! Invariant: no variable of etcd or its client is inherited.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A folder to work in, with a link named `etcd` to the program.
pub(crate) struct Program {
    folder: tempfile::TempDir,
}

impl Program {
    pub(crate) fn new() -> Program {
        let folder = tempfile::tempdir().expect("make a temporary folder");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_keelson"), folder.path().join("etcd"))
            .expect("make a link");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_keelson"), folder.path().join("etcdctl"))
            .expect("make a link");
        Program { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `keelson` with these arguments to its end.
    pub(crate) fn keelson(&self, arguments: &[&str]) -> Outcome {
        self.run(PathBuf::from(env!("CARGO_BIN_EXE_keelson")), arguments, &[])
    }

    /// The same with variables set.
    pub(crate) fn keelson_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
        self.run(PathBuf::from(env!("CARGO_BIN_EXE_keelson")), arguments, variables)
    }

    /// Runs the link named `etcdctl` with these arguments to its end.
    pub(crate) fn etcdctl(&self, arguments: &[&str]) -> Outcome {
        self.run(self.folder.path().join("etcdctl"), arguments, &[])
    }

    /// Runs the link named `etcd` with these arguments to its end.
    pub(crate) fn etcd(&self, arguments: &[&str]) -> Outcome {
        self.etcd_with(arguments, &[])
    }

    /// The same with variables set.
    pub(crate) fn etcd_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
        self.run(self.folder.path().join("etcd"), arguments, variables)
    }

    fn run(&self, program: PathBuf, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
        let mut command = Command::new(program);
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("ETCD") || name == "NOTIFY_SOCKET")
        {
            command.env_remove(name);
        }
        let output = command
            .args(arguments)
            .envs(variables.iter().copied())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("start the program");
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("output is text"),
            stderr: String::from_utf8(output.stderr).expect("output is text"),
        }
    }
}
