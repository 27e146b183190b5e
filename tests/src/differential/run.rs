//! The lockstep run: one operation to both servers, answers compared, the state of the run moved on.
//!
//! Owns: the pair of servers of a run and the report of a difference. Invariant: operation n+1 is sent only when both
//! answers to n are there. Called by: the suite and the reduction.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::accepted::soften;
use super::answer::Answer;
use super::generate::{REQUEST_BYTES_MAX, TXN_OPS_MAX};
use super::op::{Op, View};
use super::session::Session;
use crate::clock;
use crate::cluster::{Cluster, ClusterError, Kind, Options};
use crate::environment::switch;

/// The first difference of a run.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Position of the operation.
    pub at: usize,
    /// The operation.
    pub op: Op,
    /// The state of the run when it was sent.
    pub view: View,
    /// The left answer.
    pub left: Answer,
    /// The right answer.
    pub right: Answer,
}

impl Difference {
    /// Whether another run fails in the same way: same kind of operation, same kinds of answers.
    pub fn resembles(&self, other: &Self) -> bool {
        use std::mem::discriminant;
        discriminant(&self.op) == discriminant(&other.op)
            && discriminant(&self.left) == discriminant(&other.left)
            && discriminant(&self.right) == discriminant(&other.right)
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "operation {} at {:?}:\n  {:?}", self.at, self.view, self.op)?;
        let text = |answer: &Answer| match answer {
            Answer::Broken(text) => text.clone(),
            other => format!("{other:#?}"),
        };
        let (left, right) = (text(&self.left), text(&self.right));
        let (left, right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
        let same = left.iter().zip(&right).take_while(|(l, r)| l == r).count();
        let from = same.saturating_sub(12);
        for (side, lines) in [("left ", &left), ("right", &right)] {
            writeln!(f, "{side} (from line {from} of {}):", lines.len())?;
            for line in lines.iter().skip(from).take(40) {
                writeln!(f, "    {line}")?;
            }
        }
        Ok(())
    }
}

/// Which two servers.
#[derive(Clone, Debug)]
pub struct Sides {
    /// The server under test.
    pub left: Kind,
    /// What it is compared with.
    pub right: Kind,
    /// Members on each side.
    pub size: usize,
    /// Further flags of the left side; the self-test uses them to make two servers differ.
    pub left_flags: Vec<String>,
}

/// How a run ended: with what was compared, or with the first difference.
pub type Outcome = Result<Tally, Box<Difference>>;

impl Sides {
    /// The server under test beside etcd; `None` with the reason printed if one is missing.
    pub fn subject(size: usize) -> Option<Self> {
        let sides = Self { left: Kind::subject(), right: Kind::Etcd, size, left_flags: Vec::new() };
        sides.left.require()?;
        sides.right.require()?;
        Some(sides)
    }

    /// Flags of a server in a differential run: small limits, so that ordinary operations cross them, no fsync (nothing
    /// crashes here), cheap password hashes.
    pub fn options(&self, kind: Kind) -> Options {
        Options::new(kind, self.size)
            .quick()
            .flag(format!("--max-txn-ops={TXN_OPS_MAX}"))
            .flag(format!("--max-request-bytes={REQUEST_BYTES_MAX}"))
            .flag("--bcrypt-cost=4")
            .flag("--unsafe-no-fsync")
            .flag("--log-level=error")
    }
}

/// Runs operations on a fresh pair of servers; the first difference ends the run.
///
/// # Errors
/// If a server does not start.
pub async fn run(sides: &Sides, ops: &[Op]) -> Result<Outcome, ClusterError> {
    let (left, right) = tokio::join!(
        Cluster::start(sides.options(sides.left).flag_all(&sides.left_flags)),
        Cluster::start(sides.options(sides.right))
    );
    let (mut left, mut right) = (left?, right?);
    let mut outcome = run_on(&left, &right, ops).await?;
    if let Err(difference) = &mut outcome {
        for (cluster, answer) in [(&mut left, &mut difference.left), (&mut right, &mut difference.right)] {
            crashed(cluster, answer).await;
        }
    }
    Ok(outcome)
}

/// Whether there is no answer of the server's: both sides failing alike is no agreement.
fn lost(answer: &Answer) -> bool {
    match answer {
        Answer::Broken(_) => true,
        Answer::Refused {
            code: tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown,
            message,
        } => {
            ["connect", "transport", "canceled", "h2 ", "reset"].iter().any(|word| message.contains(word))
                && !message.starts_with("etcdserver:")
        }
        _ => false,
    }
}

/// Replaces a connection error by its cause: the process is gone. Its last words are in the log.
async fn crashed(cluster: &mut Cluster, answer: &mut Answer) {
    if !lost(answer) {
        return;
    }
    for index in 0..cluster.size() {
        let member = cluster.member_mut(index);
        let exited = clock::until(Duration::from_millis(500), || {
            let exited = member.exited();
            async move { exited.ok_or(()) }
        });
        if let Ok(status) = exited.await {
            *answer = Answer::Broken(format!(
                "the server ended: {status}\n{}",
                first_bytes(&member.log_tail(), 3_000)
            ));
        }
    }
}

fn first_bytes(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// Runs operations on a pair of clusters that are still empty.
///
/// # Errors
/// If a session cannot be opened.
pub async fn run_on(left: &Cluster, right: &Cluster, ops: &[Op]) -> Result<Outcome, ClusterError> {
    let open = |cluster: &Cluster| {
        let url = cluster.member(0).client_url();
        async move {
            Session::open(&url).await.map_err(|last| ClusterError::NotReady {
                member: 0,
                wait: Default::default(),
                last,
            })
        }
    };
    let (left, right) = tokio::join!(open(left), open(right));
    let mut pair = Pair { left: left?, right: right?, view: View::FRESH };
    let mut costs = Costs::default();
    let mut tally = Tally::default();
    for (at, op) in ops.iter().enumerate() {
        let view = pair.view;
        let sent = clock::now();
        let (left, right) = pair.step(op).await;
        costs.add(op, sent.elapsed());
        if left != right || lost(&left) {
            return Ok(Err(Box::new(Difference { at, op: op.clone(), view, left, right })));
        }
        tally.add(&left);
    }
    Ok(Ok(tally))
}

/// What the answers were: a comparison of nothing but refusals would prove little.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers by kind, refusals by their text.
    pub answers: BTreeMap<String, usize>,
    /// Watch events compared.
    pub events: usize,
}

impl Tally {
    fn add(&mut self, answer: &Answer) {
        let kind = match answer {
            Answer::Refused { code, message } => format!("{code:?}: {message}"),
            Answer::Drained(drained) => {
                self.events += drained.values().map(Vec::len).sum::<usize>();
                "Drained".to_owned()
            }
            other => {
                let text = format!("{other:?}");
                text.split(['(', ' ']).next().unwrap_or_default().to_owned()
            }
        };
        *self.answers.entry(kind).or_default() += 1;
    }

    /// Adds another run.
    pub fn merge(&mut self, other: Self) {
        self.events += other.events;
        for (kind, count) in other.answers {
            *self.answers.entry(kind).or_default() += count;
        }
    }
}

/// Time per kind of operation, printed at the end of a run with `KEELSON_DIFF_COSTS=1`.
#[derive(Default)]
struct Costs(HashMap<String, (usize, Duration)>);

impl Costs {
    fn add(&mut self, op: &Op, took: Duration) {
        let text = format!("{op:?}");
        let kind = text.split(['{', ' ']).next().unwrap_or_default();
        let kind = kind.splitn(3, '(').take(2).collect::<Vec<_>>().join("(");
        let cost = self.0.entry(kind).or_default();
        *cost = (cost.0 + 1, cost.1 + took);
    }
}

impl Drop for Costs {
    fn drop(&mut self) {
        if !switch("KEELSON_DIFF_COSTS") {
            return;
        }
        let mut costs: Vec<_> = self.0.drain().collect();
        costs.sort_by_key(|(_, (_, time))| std::cmp::Reverse(*time));
        for (kind, (count, time)) in costs {
            println!(
                "{kind:<30} {count:>6} x {:>9.3} ms = {:>8.2} s",
                time.as_secs_f64() * 1e3 / count as f64,
                time.as_secs_f64()
            );
        }
    }
}

struct Pair {
    left: Session,
    right: Session,
    view: View,
}

impl Pair {
    async fn step(&mut self, op: &Op) -> (Answer, Answer) {
        let (mut left, mut right) = tokio::join!(self.left.run(op, self.view), self.right.run(op, self.view));
        soften(op, self.view, &mut left);
        soften(op, self.view, &mut right);
        if let (Op::Compact { revision, .. }, Answer::Compact(_)) = (op, &left) {
            self.view.compacted = revision.resolve_compaction(self.view);
        }
        if let Some(revision) = left.revision() {
            self.view.current = revision;
        }
        (left, right)
    }
}
