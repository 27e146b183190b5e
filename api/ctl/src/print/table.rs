//! Tables: boxes of lines, titles in the middle, values to the right. Their rows are the simple form, too.

use keelson_proto::etcdserverpb as pb;

use super::fields::downgrade;
use super::{Health, Of};
use crate::go;

type Row = Vec<String>;

pub(super) fn members(answer: &pb::MemberListResponse) -> String {
    table(&["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"], &member_rows(answer))
}

pub(super) fn member_rows(answer: &pb::MemberListResponse) -> Vec<Row> {
    let row = |member: &pb::Member| {
        vec![
            format!("{:x}", member.id),
            if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    };
    answer.members.iter().map(row).collect()
}

pub(super) fn health(list: &[Health]) -> String {
    let row = |one: &Health| {
        vec![one.endpoint.clone(), one.healthy.to_string(), one.took.clone(), one.error.clone()]
    };
    table(&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], &list.iter().map(row).collect::<Vec<_>>())
}

pub(super) fn status(list: &[Of<pb::StatusResponse>]) -> String {
    const TITLES: [&str; 16] = [
        "ENDPOINT",
        "ID",
        "VERSION",
        "STORAGE VERSION",
        "DB SIZE",
        "IN USE",
        "PERCENTAGE NOT IN USE",
        "QUOTA",
        "IS LEADER",
        "IS LEARNER",
        "RAFT TERM",
        "RAFT INDEX",
        "RAFT APPLIED INDEX",
        "ERRORS",
        "DOWNGRADE TARGET VERSION",
        "DOWNGRADE ENABLED",
    ];
    table(&TITLES, &status_rows(list))
}

pub(super) fn status_rows(list: &[Of<pb::StatusResponse>]) -> Vec<Row> {
    let row = |of: &Of<pb::StatusResponse>| {
        let answer = &of.answer;
        let id = answer.header.as_ref().map_or(0, |header| header.member_id);
        let size = |bytes: i64| go::bytes(u64::try_from(bytes).unwrap_or(0));
        // Whole percents, rounded up: what is in use is rounded down.
        let free = 100 - (answer.db_size_in_use.saturating_mul(100)).checked_div(answer.db_size).unwrap_or(0);
        let (target, enabled) = downgrade(answer);
        vec![
            of.endpoint.clone(),
            format!("{id:x}"),
            answer.version.clone(),
            answer.storage_version.clone(),
            size(answer.db_size),
            size(answer.db_size_in_use),
            format!("{free}%"),
            size(answer.db_size_quota),
            (answer.leader == id).to_string(),
            answer.is_learner.to_string(),
            answer.raft_term.to_string(),
            answer.raft_index.to_string(),
            answer.raft_applied_index.to_string(),
            answer.errors.join(", "),
            target,
            enabled.to_string(),
        ]
    };
    list.iter().map(row).collect()
}

pub(super) fn hash(list: &[Of<pb::HashKvResponse>]) -> String {
    table(&["ENDPOINT", "HASH", "HASH REVISION"], &hash_rows(list))
}

pub(super) fn hash_rows(list: &[Of<pb::HashKvResponse>]) -> Vec<Row> {
    let row = |of: &Of<pb::HashKvResponse>| {
        vec![of.endpoint.clone(), of.answer.hash.to_string(), of.answer.hash_revision.to_string()]
    };
    list.iter().map(row).collect()
}

/// Rows as lines with commas.
pub(super) fn joined(rows: &[Row]) -> String {
    rows.iter().map(|row| row.join(", ") + "\n").collect()
}

fn table(titles: &[&str], rows: &[Row]) -> String {
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..titles.len())
        .map(|column| {
            rows.iter().map(|row| width(&row[column])).chain([width(titles[column])]).max().unwrap_or(0)
        })
        .collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", parts.join(middle))
    };
    let line = |cells: Vec<String>| format!("│ {} │\n", cells.join(" │ "));
    let centred = |(title, width): (&&str, &usize)| format!("{title:^width$}");
    let mut text = rule("┌", "┬", "┐");
    text += &line(titles.iter().zip(&widths).map(centred).collect());
    if !rows.is_empty() {
        text += &rule("├", "┼", "┤");
    }
    for row in rows {
        text += &line(row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect());
    }
    text + &rule("└", "┴", "┘")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_stand_in_the_middle_and_values_to_the_right() {
        let rows = [vec!["127.0.0.1:1".to_owned(), "7".to_owned()]];
        let want = "┌─────────────┬──────┐\n│  ENDPOINT   │ HASH │\n├─────────────┼──────┤\n│ 127.0.0.1:1 │    7 │\n└─────────────┴──────┘\n";
        assert_eq!(table(&["ENDPOINT", "HASH"], &rows), want);
    }
}
