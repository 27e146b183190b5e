//! The accepted differences between two servers, each with its reason. Everything else is a failure.
//!
//! Owns: the list. An entry changes an answer before the comparison, on both sides, so that the differing part is gone.
//! Called by: the lockstep run. Adding an entry needs a reason that a user would accept.
//!
//! What can never be equal (ids, terms, ports, sizes, remaining times, spacing of printed messages) is masked in
//! [`super::answer`]; orders that the API leaves open are handled in [`super::ties`]. Requests that real etcd answers with a
//! crash or with nonsense are not generated at all; [`super::generate`] says which and why at each place.

use super::answer::Answer;
use super::op::{Op, View};

/// One accepted difference.
pub struct Accepted {
    /// A short name.
    pub name: &'static str,
    /// Why the difference is right.
    pub reason: &'static str,
    /// Removes what may differ.
    pub soften: fn(&Op, View, &mut Answer),
}

/// All accepted differences.
pub const ACCEPTED: &[Accepted] = &[Accepted {
    name: "hash of a compacted revision",
    reason: "etcd remembers the hashes it computed while compacting (the last ten, with the mark before that compaction, \
             lost at a restart) and gives them to whoever asks for exactly such a revision, even below the mark. So the \
             same question has two answers on two members. Keelson answers from the data, with the present mark, and \
             refuses what is compacted. Every other revision is compared.",
    soften: |op, view, answer| {
        let Op::HashKv(revision) = op else { return };
        let asked = revision.resolve(view);
        if (1..=view.compacted).contains(&asked) {
            *answer = Answer::Softened;
        }
    },
}];

/// Applies every entry.
pub fn soften(op: &Op, view: View, answer: &mut Answer) {
    for accepted in ACCEPTED {
        (accepted.soften)(op, view, answer);
    }
}
