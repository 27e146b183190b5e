//! What a server's refusal means and what to do about it.
//!
//! Source: etcd api/v3rpc/rpctypes/error.go for the texts.

use keelson_proto::etcdserverpb as pb;
use tonic::{Code, Status};

use super::{ask_status, member_of, text_of};
use crate::failure::{ERROR, Failure};
use crate::go;
use crate::net::client::Client;
use crate::net::settings::Auth;

/// Explains an answer that is an error.
pub(super) async fn explain(client: &Client, status: &Status) -> Failure {
    let text = text_of(status);
    let failure = Failure::new(ERROR, text.clone());
    let who = match &client.settings.auth {
        Some(Auth::User { name, .. }) => format!("as user {name}"),
        Some(Auth::Token(_)) => "with the token given".to_owned(),
        None => "as nobody: no --user, no token".to_owned(),
    };
    let tried = format!("{} {who}", client.place().url());
    match text.strip_prefix("etcdserver: ").unwrap_or_default() {
        "mvcc: database space exceeded" => {
            let sizes = ask_status(client).await.map_or_else(String::new, |status| sizes(&status));
            failure
                .seen(format!("the store is over its quota and takes no writes that add data{sizes}"))
                .help("delete what is not needed, then `compaction <revision>`, `defrag --cluster` and `alarm disarm`; or raise the server's --quota-backend-bytes")
        }
        "request is too large" => failure
            .seen("the server takes requests up to its --max-request-bytes, 1.5 MiB unless told otherwise")
            .help("store less under one key or in one transaction, or raise --max-request-bytes at every member"),
        "mvcc: required revision has been compacted" => failure
            .seen(now_at(client).await)
            .help("that part of the history is gone: read without --rev, and watch from the revision that answer has, plus one"),
        "mvcc: required revision is a future revision" => failure
            .seen(now_at(client).await)
            .help("use a revision that the store has reached; after a restore from a backup old revisions can be ahead of it"),
        "user name is empty" => failure
            .tried(tried)
            .seen("the cluster asks for users (auth is enabled)")
            .help("give --user=name:password, or ETCDCTL_USER, or --auth-jwt-token"),
        "authentication failed, invalid user ID or password" => failure
            .tried(tried)
            .seen("the cluster does not know this user with this password")
            .help("check both; a user allowed to can see names with `user list` and set passwords with `user passwd`"),
        "invalid auth token" | "revision of auth store is old" => failure
            .tried(tried)
            .seen("the token has run out, or users and roles have changed since it was given")
            .help("log in again; a token made elsewhere has to be made again"),
        "permission denied" => failure
            .tried(tried)
            .seen("the user's roles do not allow this")
            .help("`user get <name> --detail` shows what they allow; `role grant-permission` adds to it; some commands need the role root"),
        "authentication is not enabled" => failure.help("leave out --user, or enable it first: `auth enable`"),
        "root user does not exist" => failure.help("make one before enabling authentication: `user add root`"),
        "no leader" | "request timed out, possibly due to previous leader failure" | "leader changed" => {
            no_leader_or(failure, client).await
        }
        "request timed out" | "request timed out, possibly due to connection lost" | "request timed out, waiting for the applied index took too long" => {
            no_leader_or(failure, client).await
        }
        "too many requests" => failure.help("the members cannot keep up: send less at once, and look at disk latency (`keelson doctor`)"),
        "corrupt cluster" => failure.help("the members disagree about the data: compare `endpoint hashkv --cluster`, and restore the odd one out from the others"),
        "rpc not supported for learner" => failure.help("ask a voting member: `endpoint status --cluster -w table` shows which are learners"),
        "requested lease not found" => failure.help("it has run out or been revoked: `lease list` shows those there are, `lease grant` makes one"),
        "member not found" => failure.help("`member list` shows the ids there are"),
        "unhealthy cluster" => failure.help("members must be connected before others are added or removed: `endpoint health --cluster` shows which are not"),
        "can only promote a learner member which is in sync with leader" => failure.help("wait until it has caught up: `endpoint status --cluster -w table` shows the applied index of each"),
        "re-configuration failed due to not enough started members" => failure.help("start the members that were added before, or remove them"),
        "not leader" => failure.help("give the endpoint of the leader, or of all members: `endpoint status --cluster -w table` shows it"),
        "bad leader transferee" => failure.help("`member list` shows the ids; a learner cannot lead"),
        "key is not provided" => failure.help("a key has one byte at least; all keys are `get \"\" --prefix`"),
        _ => by_code(failure, status),
    }
}

/// Without a text of the store's own.
fn by_code(failure: Failure, status: &Status) -> Failure {
    match status.code() {
        Code::Unimplemented => failure.help("this server does not know the command: compare versions with `endpoint status`"),
        Code::ResourceExhausted => {
            failure.help("a limit of size: --max-recv-bytes for answers here, --max-request-bytes for requests here and at the server")
        }
        Code::OutOfRange => failure.help("the answer is larger than --max-recv-bytes allows: raise it, or ask with --limit"),
        Code::Unavailable => failure.help("the server is stopping or not ready: try again, or another endpoint"),
        _ => failure,
    }
}

/// Explains that a cluster cannot agree.
pub(super) fn no_leader(headline: String, client: &Client, status: &pb::StatusResponse) -> Failure {
    Failure::new(ERROR, headline)
        .tried(format!("{} (the request, then its status)", client.place().url()))
        .seen(format!("the member {:x} is up and knows no leader in term {}", member_of(status), status.raft_term))
        .help("more than half of the members must be up and reach each other: `endpoint status --cluster`, then the log of those that are missing")
}

async fn no_leader_or(failure: Failure, client: &Client) -> Failure {
    match ask_status(client).await {
        Some(status) if status.leader == 0 => {
            no_leader(failure.message().to_owned(), client, &status)
        }
        Some(status) => failure
            .seen(format!("the leader is {:x} now, in term {}", status.leader, status.raft_term))
            .help("try again: it may have been an election; if it stays so, look at the disks and the network of the members"),
        None => failure.help("try another endpoint: this one does not answer any more"),
    }
}

fn sizes(status: &pb::StatusResponse) -> String {
    match (u64::try_from(status.db_size), u64::try_from(status.db_size_quota)) {
        (Ok(size), Ok(quota)) if quota > 0 => format!(": {} of {}", go::bytes(size), go::bytes(quota)),
        (Ok(size), _) => format!(": {}", go::bytes(size)),
        _ => String::new(),
    }
}

async fn now_at(client: &Client) -> String {
    match ask_status(client).await.and_then(|status| status.header) {
        Some(header) => format!("the store is at revision {}", header.revision),
        None => "the store's present revision is not known".to_owned(),
    }
}
