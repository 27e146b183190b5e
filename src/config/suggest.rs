//! Finds the known name that somebody probably meant.
//!
//! Called by: the flag parser, the file reader and the check of environment names. Pure.

/// The candidate nearest to `written`, if near enough to be worth saying.
pub(super) fn nearest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the length: "nme" finds "name", "x" finds nothing.
    let limit = (written.len() / 3).max(1);
    let written = written.replace('_', "-").to_ascii_lowercase();
    candidates
        .map(|candidate| (distance(&written, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) that turn one text into the other.
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut before_last = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, l) in left.iter().enumerate() {
        let mut current = vec![row + 1; right.len() + 1];
        for (column, r) in right.iter().enumerate() {
            let replaced = last[column] + usize::from(l != r);
            let mut best = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *l == right[column - 1] && left[row - 1] == *r {
                best = best.min(before_last[column - 1] + 1);
            }
            current[column + 1] = best;
        }
        before_last = last;
        last = current;
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_else() {
        let names = ["name", "data-dir", "listen-client-urls", "listen-peer-urls"];
        let check = |written: &str, expected: Option<&str>| {
            assert_eq!(nearest(written, names.iter().copied()), expected, "{written}");
        };
        check("nmae", Some("name"));
        check("listen-client-url", Some("listen-client-urls"));
        check("listen_peer_urls", Some("listen-peer-urls"));
        check("data-dri", Some("data-dir"));
        check("nodes", None);
        check("", None);
    }
}
