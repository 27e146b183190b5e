//! `snapshot save`: the data of one member into a file.
//!
//! Invariant: the file appears under its name only when it is whole and on the disk.

use std::path::PathBuf;

use keelson_proto::etcdserverpb as pb;
use pb::maintenance_client::MaintenanceClient;
use tokio::fs;
use tokio::io::AsyncWriteExt as _;

use super::{Context, Done, expect_arguments};
use crate::failure::{Failure, INTERRUPTED};
use crate::print::out;

/// A snapshot is whole pages and a hash behind them.
const PAGE: u64 = 512;
const HASH: u64 = 32;

pub(super) async fn save(context: &Context<'_>) -> Done {
    expect_arguments(context, 1, "snapshot save expects one argument <filename>")?;
    if context.settings.endpoints.len() != 1 {
        let given = context.settings.endpoints.join(" ");
        return Err(Failure::new(
            INTERRUPTED,
            format!("snapshot must be requested to one selected node, not multiple [{given}]"),
        )
        .help("give one of them with --endpoints: each member has all the data"));
    }
    let path = PathBuf::from(&context.arguments()[0]);
    let part = PathBuf::from(format!("{}.part", path.display()));
    let fetched = match context.call.given("command-timeout") {
        false => fetch(context, &part).await,
        true => match tokio::time::timeout(context.settings.command_timeout, fetch(context, &part)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(INTERRUPTED, "the snapshot is not complete within --command-timeout")
                .help("allow more, or leave --command-timeout out: then it may take as long as it takes")),
        },
    };
    let moved = match fetched {
        Ok(version) => {
            fs::rename(&part, &path).await.map(|()| version).map_err(|error| local("rename", &path, &error))
        }
        Err(failure) => Err(failure),
    };
    match moved {
        Ok(version) => {
            out::line(&format!("Snapshot saved at {}", path.display()))?;
            if version.is_empty() { Ok(()) } else { out::line(&format!("Server version {version}")) }
        }
        Err(failure) => {
            // Nobody shall take a piece for the whole; if it was never made there is nothing to remove.
            let _ = fs::remove_file(&part).await;
            Err(failure.with_code(INTERRUPTED))
        }
    }
}

/// Writes the snapshot and returns the version of its format.
async fn fetch(context: &Context<'_>, part: &std::path::Path) -> Result<String, Failure> {
    let client = context.client().await?;
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(part).await;
    let mut file = opened.map_err(|error| local("open", part, &error))?;
    let mut service = MaintenanceClient::new(client.channel()).max_decoding_message_size(usize::MAX);
    let mut pieces = match service.snapshot(client.request(pb::SnapshotRequest {})).await {
        Ok(pieces) => pieces.into_inner(),
        Err(status) => return Err(client.explain(&status).await),
    };
    let (mut size, mut version) = (0_u64, String::new());
    loop {
        match pieces.message().await {
            Ok(Some(piece)) => {
                size += piece.blob.len() as u64;
                file.write_all(&piece.blob).await.map_err(|error| local("write", part, &error))?;
                if !piece.version.is_empty() {
                    version = piece.version;
                }
            }
            Ok(None) => break,
            Err(status) => return Err(client.explain(&status).await),
        }
    }
    if size % PAGE != HASH {
        return Err(Failure::new(INTERRUPTED, format!("sha256 checksum not found [bytes: {size}]"))
            .help("the server ended the snapshot early: look at its log, and try again"));
    }
    file.flush().await.map_err(|error| local("write", part, &error))?;
    file.sync_all().await.map_err(|error| local("sync", part, &error))?;
    Ok(version)
}

fn local(what: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(INTERRUPTED, format!("could not {what} {} ({error})", path.display()))
        .help("give a file in a folder that can be written and has room")
}
