//! The accepted differences between two servers, each with its reason. Everything else is a failure.
//!
//! Owns: the list. An entry changes an answer before the comparison, on both sides, so that the differing part is gone.
//! Called by: the lockstep run. Adding an entry needs a reason that a user would accept.
//!
//! What can never be equal (ids, terms, ports, sizes, remaining times, spacing of printed messages) is masked in
//! [`super::answer`]; orders that the API leaves open are handled in [`super::ties`]. Requests that real etcd answers with a
//! crash or with nonsense are not generated at all; [`super::generate`] says which and why at each place.

use super::answer::Answer;
use super::op::Op;

/// One accepted difference.
pub struct Accepted {
    /// A short name.
    pub name: &'static str,
    /// Why the difference is right.
    pub reason: &'static str,
    /// Removes what may differ.
    pub soften: fn(&Op, &mut Answer),
}

/// All accepted differences: none so far.
pub const ACCEPTED: &[Accepted] = &[];

/// Applies every entry.
pub fn soften(op: &Op, answer: &mut Answer) {
    for accepted in ACCEPTED {
        (accepted.soften)(op, answer);
    }
}
