//! An archive in the tar format, with what is needed of it: plain files of text.
//!
//! Source: POSIX.1-1988, ustar: 512 bytes of header, the content, zeros up to the next 512; two empty blocks at the end.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const BLOCK: usize = 512;
/// Every file lies in this folder.
const FOLDER: &str = "keelson-debug";

pub(super) struct Archive {
    file: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
    names: Vec<String>,
}

impl Archive {
    /// Readable by its owner alone.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let part = PathBuf::from(format!("{}.part", path.display()));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        Ok(Self { file: BufWriter::new(file), part, path: path.to_owned(), names: Vec::new() })
    }

    pub(super) fn add(&mut self, name: &str, text: &str) -> io::Result<()> {
        let header = header(&format!("{FOLDER}/{name}"), text.len());
        self.file.write_all(&header)?;
        self.file.write_all(text.as_bytes())?;
        let padding = text.len().next_multiple_of(BLOCK) - text.len();
        self.file.write_all(&[0; BLOCK][..padding])?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Gives the archive its name, now that it is whole.
    pub(super) fn finish(mut self) -> io::Result<Vec<String>> {
        self.file.write_all(&[0; 2 * BLOCK])?;
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&self.part, &self.path)?;
        Ok(self.names)
    }
}

fn header(name: &str, size: usize) -> [u8; BLOCK] {
    let mut block = [0_u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let name = &name.as_bytes()[..name.len().min(100)];
    put(0, name);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    // The sum is taken with blanks in its place.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        let mut archive = Archive::create(&path).unwrap();
        archive.add("a.txt", "hello").unwrap();
        archive.add("b/c.txt", &"x".repeat(BLOCK)).unwrap();
        assert_eq!(archive.finish().unwrap(), ["a.txt", "b/c.txt"]);
        let run = |flag: &str| {
            std::process::Command::new("tar").args([flag, path.to_str().unwrap(), "-O"]).output().unwrap()
        };
        let out = run("-xf");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.stdout.len(), 5 + BLOCK);
    }
}
