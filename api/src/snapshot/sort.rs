//! Sorts rows by key in bounded memory: full buffers are sorted and go to a file as runs, which are merged at the end.
//!
//! Owns: the buffer, the file of runs. Called by: `snapshot::contents`. Invariants: memory is the buffer while rows
//! come and one read buffer a run while they are merged; the file has no name, so nothing is left behind.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Bytes read ahead in each run while merging: a store of 8 GiB has some 250 runs.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// Length of key and length of value in front of each row of a run.
const ROW_HEAD_BYTES: usize = 8;

/// See the module.
pub(super) struct Sorter {
    dir: PathBuf,
    buffer_bytes_max: usize,
    buffer: Vec<u8>,
    rows: Vec<Row>,
    file: Option<File>,
    /// Where each run lies in the file.
    runs: Vec<Range<u64>>,
}

/// A row in the buffer.
struct Row {
    start: usize,
    key_len: usize,
    value_len: usize,
}

impl Row {
    fn key<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        &buffer[self.start..self.start + self.key_len]
    }

    fn value<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        &buffer[self.start + self.key_len..][..self.value_len]
    }
}

impl Sorter {
    /// `dir`: where runs go once there is more than `buffer_bytes_max`, soft.
    pub(super) fn new(dir: PathBuf, buffer_bytes_max: usize) -> Self {
        Sorter { dir, buffer_bytes_max, buffer: Vec::new(), rows: Vec::new(), file: None, runs: Vec::new() }
    }

    /// Adds a row. Each key comes once.
    ///
    /// # Errors
    /// The file.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let row = Row { start: self.buffer.len(), key_len: key.len(), value_len: value.len() };
        self.buffer.extend_from_slice(key);
        self.buffer.extend_from_slice(value);
        self.rows.push(row);
        if self.buffer.len() + self.rows.len() * size_of::<Row>() >= self.buffer_bytes_max {
            self.spill()?;
        }
        Ok(())
    }

    /// Hands out all rows in order of key.
    ///
    /// # Errors
    /// The file, or what `visit` says.
    pub(super) fn finish(mut self, mut visit: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.runs.is_empty() {
            self.sort();
            return self
                .rows
                .iter()
                .try_for_each(|row| visit(row.key(&self.buffer), row.value(&self.buffer)));
        }
        self.spill()?;
        (self.buffer, self.rows) = (Vec::new(), Vec::new());
        merge(self.file.as_ref().expect("runs are in a file"), &self.runs, visit)
    }

    fn sort(&mut self) {
        let buffer = &self.buffer;
        self.rows.sort_unstable_by(|a, b| a.key(buffer).cmp(b.key(buffer)));
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let start = self.runs.last().map_or(0, |run| run.end);
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile_in(&self.dir)?);
        }
        let mut out = BufWriter::new(self.file.as_ref().expect("just made"));
        for row in &self.rows {
            out.write_all(&len(row.key_len).to_le_bytes())?;
            out.write_all(&len(row.value_len).to_le_bytes())?;
            out.write_all(row.key(&self.buffer))?;
            out.write_all(row.value(&self.buffer))?;
        }
        out.flush()?;
        drop(out);
        let bytes = self.rows.len() * ROW_HEAD_BYTES + self.buffer.len();
        self.runs.push(start..start + bytes as u64);
        self.buffer.clear();
        self.rows.clear();
        Ok(())
    }
}

fn len(len: usize) -> u32 {
    u32::try_from(len).expect("a row is smaller than 4 GiB")
}

fn merge(
    file: &File,
    runs: &[Range<u64>],
    mut visit: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut readers: Vec<Run> = runs.iter().map(|range| Run::new(file, range.clone())).collect();
    let mut heads = BinaryHeap::new();
    for (number, reader) in readers.iter_mut().enumerate() {
        heads.extend(reader.next_key()?.map(|key| Reverse((key, number))));
    }
    while let Some(Reverse((key, number))) = heads.pop() {
        visit(&key, &readers[number].value)?;
        heads.extend(readers[number].next_key()?.map(|key| Reverse((key, number))));
    }
    Ok(())
}

/// Reads one run.
struct Run<'f> {
    reader: BufReader<Section<'f>>,
    /// The value of the key given last.
    value: Vec<u8>,
}

impl<'f> Run<'f> {
    fn new(file: &'f File, range: Range<u64>) -> Self {
        let reader = BufReader::with_capacity(READ_AHEAD_BYTES, Section { file, range });
        Run { reader, value: Vec::new() }
    }

    fn next_key(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut head = [0; ROW_HEAD_BYTES];
        if self.reader.buffer().is_empty() && self.reader.get_ref().range.is_empty() {
            return Ok(None);
        }
        self.reader.read_exact(&mut head)?;
        let length =
            |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes")) as usize;
        let mut key = vec![0; length(0)];
        self.reader.read_exact(&mut key)?;
        self.value.resize(length(4), 0);
        self.reader.read_exact(&mut self.value)?;
        Ok(Some(key))
    }
}

/// A part of a file, read at a place of its own.
struct Section<'f> {
    file: &'f File,
    range: Range<u64>,
}

impl Read for Section<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let want = out.len().min(left);
        let read = self.file.read_at(&mut out[..want], self.range.start)?;
        self.range.start += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_in_order_whatever_fits_the_buffer() {
        let rows: Vec<(Vec<u8>, Vec<u8>)> = (0..5000u32)
            .map(|number| number.wrapping_mul(2_654_435_761))
            .map(|number| (number.to_be_bytes().to_vec(), vec![number as u8; number as usize % 300]))
            .collect();
        let mut expected = rows.clone();
        expected.sort();
        for buffer_bytes_max in [1, 1000, 100_000, usize::MAX] {
            let mut sorter = Sorter::new(std::env::temp_dir(), buffer_bytes_max);
            for (key, value) in if buffer_bytes_max == 1 { &rows[..300] } else { &rows } {
                sorter.add(key, value).unwrap();
            }
            let mut found = Vec::new();
            sorter
                .finish(|key, value| {
                    found.push((key.to_vec(), value.to_vec()));
                    Ok(())
                })
                .unwrap();
            if buffer_bytes_max == 1 {
                assert!(found.len() == 300 && found.is_sorted());
            } else {
                assert!(found == expected, "a buffer of {buffer_bytes_max}");
            }
        }
    }

    #[test]
    fn nothing_is_a_sorted_list_too() {
        Sorter::new(std::env::temp_dir(), 10).finish(|_, _| panic!("there are no rows")).unwrap();
    }
}
