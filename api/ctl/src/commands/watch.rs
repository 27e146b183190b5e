//! `watch`: prints changes, or runs a command at each; one watch, or as many as standard input asks for.

use std::process::Command;

use keelson_proto::etcdserverpb as pb;
use tokio::sync::mpsc;

use super::outside::{self, Lines};
use super::txn_text::words;
use super::watch_line::{Variables, read};
use super::watcher::{Spec, Watcher, reason};
use super::{Context, Done};
use crate::failure::{ERROR, Failure, INPUT, INTERRUPTED};
use crate::go::quote;
use crate::line::parse::parse_command;
use crate::print::{Printer, out};

pub(super) async fn run(context: &Context<'_>) -> Done {
    let variables = Variables::read(context.environment)?;
    if context.call.switch("interactive") {
        return interactive(context, &variables).await;
    }
    let (spec, command) = read(&context.call, &variables)?;
    let client = context.client().await?;
    follow(context.printer, Watcher::new(&client, spec), &command).await?;
    Err(Failure::new(INTERRUPTED, "watch is canceled by the server"))
}

/// Shows what comes until the server cancels.
async fn follow(printer: Printer, mut watcher: Watcher, command: &[String]) -> Done {
    loop {
        let answer = watcher.next().await?;
        if answer.canceled {
            let why = reason(&answer);
            eprintln!("watch was canceled ({why})");
            if answer.compact_revision != 0 {
                eprintln!(
                    "   help: history before revision {} is gone: read the keys, then watch from the revision of that answer plus one",
                    answer.compact_revision
                );
            }
            // Refused at once: etcd's client shows no answer then.
            if !answer.created {
                printer.watch(&answer)?;
            }
            return Ok(());
        }
        if answer.events.is_empty() && answer.compact_revision == 0 {
            out::line(&format!(
                "progress notify: {}",
                answer.header.as_ref().map_or(0, |header| header.revision)
            ))?;
        }
        printer.watch(&answer)?;
        execute(&answer, command).await?;
    }
}

/// Runs the command once for every event, in order.
async fn execute(answer: &pb::WatchResponse, command: &[String]) -> Done {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    for event in &answer.events {
        let kv = event.kv.clone().unwrap_or_default();
        let name = match event.r#type() {
            keelson_proto::mvccpb::event::EventType::Put => "PUT",
            keelson_proto::mvccpb::event::EventType::Delete => "DELETE",
        };
        let mut started = Command::new(program);
        started
            .args(arguments)
            .env(
                "ETCD_WATCH_REVISION",
                answer.header.as_ref().map_or(0, |header| header.revision).to_string(),
            )
            .env("ETCD_WATCH_EVENT_TYPE", quote(name.as_bytes()))
            .env("ETCD_WATCH_KEY", quote(&kv.key))
            .env("ETCD_WATCH_VALUE", quote(&kv.value));
        let status = outside::run(started).await;
        let why = match status {
            Ok(status) if status.success() => continue,
            Ok(status) => status.to_string().replace("exit status:", "exit status"),
            Err(error) => error.to_string(),
        };
        let shown: Vec<String> = command.iter().map(|word| quote(word.as_bytes())).collect();
        eprintln!("command [{}] error ({why})", shown.join(" "));
        return Err(Failure::quiet(ERROR));
    }
    Ok(())
}

/// Reads `watch ...` and `progress` from standard input; all watches go on side by side.
async fn interactive(context: &Context<'_>, variables: &Variables) -> Done {
    let client = context.client().await?;
    let (fail, mut failed) = mpsc::unbounded_channel::<Failure>();
    let mut asking: Vec<mpsc::UnboundedSender<()>> = Vec::new();
    let mut lines = Lines::open();
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            Some(failure) = failed.recv() => return Err(failure),
        };
        let line = match line {
            Some(Ok(line)) => line.trim_end_matches('\n').to_owned(),
            None => return Err(end_of_input("EOF")),
            Some(Err(error)) => return Err(end_of_input(&error.to_string())),
        };
        let words = words(&line)?;
        match words.first().map(String::as_str) {
            None => eprintln!("Invalid command: {line} (watch and progress supported)"),
            Some("watch") if words.len() < 2 && variables.key.is_empty() => {
                eprintln!("Invalid command {line} (command type or key is not provided)");
            }
            Some("watch") => {
                let call = parse_command("watch", &words[1..])?;
                let (spec, command): (Spec, _) = read(&call, variables)?;
                let (ask, asked) = mpsc::unbounded_channel();
                asking.push(ask);
                let (watcher, printer, fail) =
                    (Watcher::new(&client, spec).with_progress(asked), context.printer, fail.clone());
                tokio::spawn(async move {
                    if let Err(failure) = follow(printer, watcher, &command).await {
                        // The reader of lines may have ended already.
                        let _ = fail.send(failure);
                    }
                });
            }
            Some("progress") => asking.retain(|ask| ask.send(()).is_ok()),
            Some(_) => eprintln!("Invalid command {line} (only support watch)"),
        }
    }
}

fn end_of_input(why: &str) -> Failure {
    Failure::new(INPUT, format!("error reading watch request line: {why}"))
        .help("watches go on while standard input is open: lines are `watch [flags] key [end] [-- command]` or `progress`")
}
