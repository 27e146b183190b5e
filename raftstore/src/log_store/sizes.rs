//! How many bytes of log lie between two indexes, coarsely.
//!
//! Owns: a mark for every so many bytes appended. Called by: `log_store`, for the purging rules of `keeper`.
//! Invariant: marks increase in index and in bytes; answers err on the side of keeping more log.

use std::collections::VecDeque;

pub(super) struct Sizes {
    mark_bytes: u64,
    /// (index, bytes appended before it).
    marks: VecDeque<(u64, u64)>,
    appended: u64,
    purged: u64,
}

impl Sizes {
    /// `mark_bytes`: distance of the marks, hence how exact the answers are.
    pub(super) fn new(mark_bytes: u64) -> Self {
        Sizes { mark_bytes, marks: VecDeque::new(), appended: 0, purged: 0 }
    }

    pub(super) fn push(&mut self, index: u64, bytes: usize) {
        let due = self.marks.back().is_none_or(|(_, before)| self.appended - before >= self.mark_bytes);
        if due {
            self.marks.push_back((index, self.appended));
        }
        self.appended += bytes as u64;
    }

    pub(super) fn truncate(&mut self, next: u64) {
        while self.marks.back().is_some_and(|(index, _)| *index >= next) {
            let (_, before) = self.marks.pop_back().expect("looked at");
            self.appended = before;
        }
    }

    pub(super) fn purge(&mut self, through: u64) {
        while self.marks.front().is_some_and(|(index, _)| *index <= through) {
            let (_, before) = self.marks.pop_front().expect("looked at");
            self.purged = before;
        }
        if self.marks.is_empty() {
            self.purged = self.appended;
        }
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.appended - self.purged
    }

    /// The newest marked index with at least `bytes` between it and `index`.
    pub(super) fn behind(&self, index: u64, bytes: u64) -> Option<u64> {
        let upto = self.marks.partition_point(|(mark, _)| *mark <= index);
        let here = match self.marks.get(upto) {
            // Bytes before `index` are at least those before the mark at or below it.
            _ if upto == 0 => return None,
            _ => self.marks[upto - 1].1,
        };
        let enough = self.marks.partition_point(|(_, before)| before + bytes <= here);
        enough.checked_sub(1).map(|at| self.marks[at].0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_behind_has_at_least_that_many_bytes_after_it() {
        let mut sizes = Sizes::new(1 << 20);
        for index in 0..100 {
            sizes.push(index, 300 << 10);
        }
        let behind = sizes.behind(99, 10 << 20).expect("far enough");
        assert!((99 - behind) * (300 << 10) >= 10 << 20, "too near: {behind}");
        assert!((99 - behind) * (300 << 10) < 14 << 20, "too far: {behind}");
        assert_eq!(sizes.behind(10, 10 << 20), None);
        assert_eq!(sizes.total_bytes(), 100 * (300 << 10));
        sizes.purge(behind);
        assert!(sizes.total_bytes() < 14 << 20);
        sizes.truncate(97);
        sizes.push(97, 1);
        assert!(sizes.behind(98, 1 << 20).is_some());
    }
}
