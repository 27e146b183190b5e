//! From a failure to what a person can act on: what was tried, what was seen, what to do.
//!
//! Owns: the texts. Invariants: where the server has said something, its words come first, as etcdctl prints them; where
//! nobody has said anything, the endpoint is looked at again, step by step, so that the cause is seen and not guessed;
//! a limit of time is never the whole explanation. Called by: `net::client` and the streams of the commands.

mod certificate;
mod network;
pub(crate) mod probe;
mod server;

use std::time::Duration;

use futures::future::join_all;
use keelson_proto::code_name;
use keelson_proto::etcdserverpb as pb;
use tonic::Status;

use crate::failure::{CONNECTION, ERROR, Failure};
use crate::go;
use crate::net::client::Client;
use crate::net::endpoint::Place;
use crate::net::settings::Settings;
use probe::{Seen, look};

/// What a server without users says to a login.
pub(crate) const AUTH_NOT_ENABLED: &str = "etcdserver: authentication is not enabled";

/// Whether the server has answered, or the connection has failed.
pub(crate) fn is_of_server(status: &Status) -> bool {
    std::error::Error::source(status).is_none()
}

/// Explains that no endpoint gave a connection.
pub(crate) async fn unreachable(settings: &Settings, places: &[Place]) -> Failure {
    let seen = join_all(places.iter().map(|place| look(settings, place))).await;
    let first = seen.first().expect("there is an endpoint");
    let what = if places.len() == 1 { "the endpoint" } else { "any of the endpoints" };
    let mut failure = Failure::new(CONNECTION, format!("cannot reach {what}: {}", network::headline(first)));
    for (place, seen) in places.iter().zip(&seen) {
        failure = failure.tried(network::tried(settings, place)).seen(network::seen(place, seen));
    }
    failure.help(network::remedy(settings, &places[0], first))
}

/// Explains that a call had no answer in time.
pub(crate) async fn timed_out(client: &Client, wait: Duration) -> Failure {
    let (settings, place) = (&client.settings, client.place());
    let wait = go::duration(wait);
    let seen = look(settings, place).await;
    if !matches!(seen, Seen::Serves) {
        return Failure::new(ERROR, format!("no answer within {wait}: {}", network::headline(&seen)))
            .tried(network::tried(settings, place))
            .seen(network::seen(place, &seen))
            .help(network::remedy(settings, place, &seen));
    }
    match ask_status(client).await {
        Some(status) if status.leader == 0 => server::no_leader(format!("no answer within {wait}: the cluster has no leader"), client, &status),
        Some(status) => Failure::new(ERROR, format!("no answer within {wait}, although the cluster has a leader"))
            .tried(format!("{} (the request itself)", place.url()))
            .seen(format!("the member {:x} answers, leader is {:x}", member_of(&status), status.leader))
            .help("the request may wait for a slow disk, or have been too much at once: look at the server's log for slow requests, \
                   or allow more with --command-timeout"),
        None => Failure::new(ERROR, format!("no answer within {wait}: the server takes connections and says nothing"))
            .tried(format!("{} (the request, then its status)", place.url()))
            .seen("a connection, and no answer to anything on it")
            .help("look whether the server's process is stopped, swapped out or waits for its disk"),
    }
}

/// Explains an answer that is an error, or the loss of the connection.
pub(crate) async fn status(client: &Client, status: &Status) -> Failure {
    if is_of_server(status) {
        return server::explain(client, status).await;
    }
    let (settings, place) = (&client.settings, client.place());
    let seen = look(settings, place).await;
    if matches!(seen, Seen::Serves) {
        return Failure::new(ERROR, "the connection broke off during the request")
            .tried(network::tried(settings, place))
            .seen(format!("{}; a new connection is answered", chain(status)))
            .help("the server or something between has ended it, perhaps by a restart: whether a write took effect has to be looked up");
    }
    Failure::new(ERROR, format!("the request had no answer: {}", network::headline(&seen)))
        .tried(network::tried(settings, place))
        .seen(network::seen(place, &seen))
        .help(network::remedy(settings, place, &seen))
}

/// Explains that a request is larger than this client sends.
pub(crate) fn own_limit(size: usize, limit: usize) -> Failure {
    Failure::new(
        ERROR,
        format!("rpc error: code = ResourceExhausted desc = trying to send message larger than max ({size} vs. {limit})"),
    )
    .seen(format!("a request of {} is more than this client sends ({})", go::bytes(size as u64), go::bytes(limit as u64)))
    .help("store less under one key, or raise --max-request-bytes here and at the server, which refuses more than 1.5 MiB by itself")
}

/// The text of a status as etcdctl prints it.
pub(crate) fn text_of(status: &Status) -> String {
    if status.message().starts_with("etcdserver: ") {
        return status.message().to_owned();
    }
    format!("rpc error: code = {} desc = {}", code_name(status.code()), status.message())
}

/// The status of the member this client is connected to, or nothing soon enough. Never explained itself.
async fn ask_status(client: &Client) -> Option<pb::StatusResponse> {
    let mut maintenance = pb::maintenance_client::MaintenanceClient::new(client.channel());
    let question = maintenance.status(client.request(pb::StatusRequest {}));
    let answer = tokio::time::timeout(client.settings.dial_timeout, question).await;
    answer.ok()?.ok().map(tonic::Response::into_inner)
}

fn member_of(status: &pb::StatusResponse) -> u64 {
    status.header.as_ref().map_or(0, |header| header.member_id)
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}
