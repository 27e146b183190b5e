//! Replaces a member of a running cluster by a new one, in the order that never costs the quorum: learner, voter, then away with
//! the old one; a dead one goes first.
//!
//! Owns: the steps and the waiting between them. Called by: the command `member replace`. Invariants: nothing is changed before
//! [`plan`](plan::plan) has agreed; each step is looked up anew before the next, so the command may be run again at any point
//! and goes on where it was.
//! Source: etcd's learners (`docs/learning/design-learner`): a member that has not caught up has no vote.

pub mod plan;
mod remote;

use std::time::Duration;

use keelson_api::clock::{Clock, TokioClock};

use plan::{Refusal, Seen, Step, Wanted, plan};
pub use remote::{Access, Remote, RemoteError};

/// Pause between two looks at a member that catches up.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Why a member was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// It would not be safe, or not possible.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The cluster.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The new member did not catch up in time.
    #[error("member {0:x} has not caught up")]
    Slow(u64),
}

/// Looks at the cluster and gives what is to be done. `removed`: the old member was removed before.
///
/// # Errors
/// Nobody answers, or it is refused.
pub async fn look(
    remote: &Remote,
    wanted: &Wanted,
    removed: bool,
) -> Result<(Vec<Seen>, Vec<Step>), ReplaceError> {
    let members = remote.members().await?;
    let steps = plan(&members, wanted, removed)?;
    Ok((members, steps))
}

/// Does it; `tell` hears of each step.
///
/// `wait`: how long the new member may take to start and catch up.
///
/// # Errors
/// A step that fails: running it again goes on there.
pub async fn replace(
    remote: &Remote,
    wanted: &Wanted,
    mut removed: bool,
    wait: Duration,
    mut tell: impl FnMut(&str),
) -> Result<(), ReplaceError> {
    let clock = TokioClock::new();
    let mut waited = Duration::ZERO;
    loop {
        let (members, steps) = look(remote, wanted, removed).await?;
        match steps.first() {
            None => return Ok(()),
            Some(Step::AddLearner) => {
                let id = remote.add_learner(&wanted.peer_urls).await?;
                tell(&format!(
                    "added learner {id:x}; start it now, with an empty folder:\n  {}",
                    start(&members, wanted)
                ));
            }
            Some(Step::Promote { id }) => match remote.promote(*id).await {
                Ok(()) => tell(&format!("promoted {id:x}: it votes")),
                Err(RemoteError::NotReady) if waited < wait => {
                    waited += LOOK_PAUSE;
                    clock.sleep(LOOK_PAUSE).await;
                }
                Err(RemoteError::NotReady) => return Err(ReplaceError::Slow(*id)),
                Err(error) => return Err(error.into()),
            },
            Some(Step::AwaitHealthy { id }) => {
                if waited >= wait {
                    return Err(ReplaceError::Slow(*id));
                }
                waited += LOOK_PAUSE;
                clock.sleep(LOOK_PAUSE).await;
            }
            Some(Step::Remove { id }) => {
                remote.remove(*id).await?;
                tell(&format!("removed {id:x}; its folder is of no use any more"));
                // The endpoint that answers may have been its own.
                if steps.len() == 1 {
                    return Ok(());
                }
                removed = true;
            }
        }
    }
}

/// How the new member is started.
fn start(members: &[Seen], wanted: &Wanted) -> String {
    let others = members.iter().filter(|member| member.id != wanted.old && !member.name.is_empty());
    let others =
        others.flat_map(|member| member.peer_urls.iter().map(|url| format!("{}={url}", member.name)));
    let own = wanted.peer_urls.iter().map(|url| format!("{}={url}", wanted.name));
    let initial: Vec<_> = others.chain(own).collect();
    let urls = wanted.peer_urls.join(",");
    format!(
        "keelson store --name={} --initial-cluster-state=existing --initial-cluster={} --initial-advertise-peer-urls={urls} \
         --listen-peer-urls={urls}",
        wanted.name,
        initial.join(","),
    )
}
