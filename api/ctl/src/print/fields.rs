//! The form of fields: a name and a value on each line.

use keelson_proto::{authpb, etcdserverpb as pb, mvccpb};

use super::simple::event_name;
use super::{Health, Of, Printer};
use crate::go::quote;

pub(super) fn header(printer: &Printer, header: Option<&pb::ResponseHeader>) -> String {
    let header = header.cloned().unwrap_or_default();
    let id = |id: u64| number(printer, id);
    let mut text =
        format!("\"ClusterID\" : {}\n\"MemberID\" : {}\n", id(header.cluster_id), id(header.member_id));
    if header.revision > 0 {
        text += &format!("\"Revision\" : {}\n", header.revision);
    }
    text + &format!("\"RaftTerm\" : {}\n", header.raft_term)
}

fn number(printer: &Printer, id: u64) -> String {
    if printer.hex { format!("{id:x}") } else { id.to_string() }
}

fn pair(printer: &Printer, before: &str, kv: &mvccpb::KeyValue) -> String {
    let lease = if printer.hex { format!("{:016x}", kv.lease) } else { kv.lease.to_string() };
    format!(
        "\"{before}Key\" : {}\n\"{before}CreateRevision\" : {}\n\"{before}ModRevision\" : {}\n\"{before}Version\" : {}\n\
         \"{before}Value\" : {}\n\"{before}Lease\" : {lease}\n",
        quote(&kv.key),
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        quote(&kv.value),
    )
}

pub(super) fn get(printer: &Printer, answer: &pb::RangeResponse) -> String {
    let pairs: String = answer.kvs.iter().map(|kv| pair(printer, "", kv)).collect();
    header(printer, answer.header.as_ref())
        + &pairs
        + &format!("\"More\" : {}\n\"Count\" : {}\n", answer.more, answer.count)
}

pub(super) fn put(printer: &Printer, answer: &pb::PutResponse) -> String {
    let before: String = answer.prev_kv.iter().map(|kv| pair(printer, "Prev", kv)).collect();
    header(printer, answer.header.as_ref()) + &before
}

pub(super) fn del(printer: &Printer, answer: &pb::DeleteRangeResponse) -> String {
    let before: String = answer.prev_kvs.iter().map(|kv| pair(printer, "Prev", kv)).collect();
    header(printer, answer.header.as_ref()) + &format!("\"Deleted\" : {}\n", answer.deleted) + &before
}

pub(super) fn txn(printer: &Printer, answer: &pb::TxnResponse) -> String {
    use pb::response_op::Response;
    let mut text =
        header(printer, answer.header.as_ref()) + &format!("\"Succeeded\" : {}\n", answer.succeeded);
    for one in &answer.responses {
        text += &match &one.response {
            Some(Response::ResponseRange(answer)) => get(printer, answer),
            Some(Response::ResponsePut(answer)) => put(printer, answer),
            Some(Response::ResponseDeleteRange(answer)) => del(printer, answer),
            Some(Response::ResponseTxn(_)) | None => "\"Unknown\" : \"<nil>\"\n".to_owned(),
        };
    }
    text
}

pub(super) fn watch(printer: &Printer, answer: &pb::WatchResponse) -> String {
    let mut text = header(printer, answer.header.as_ref());
    for event in &answer.events {
        text += &format!("\"Type\" : {}\n", event_name(event));
        text += &event.prev_kv.iter().map(|kv| pair(printer, "Prev", kv)).collect::<String>();
        text += &pair(printer, "", &event.kv.clone().unwrap_or_default());
    }
    text
}

pub(super) fn alarm(printer: &Printer, answer: &pb::AlarmResponse) -> String {
    let one = |alarm: &pb::AlarmMember| {
        let kind = pb::AlarmType::try_from(alarm.alarm)
            .map_or_else(|_| alarm.alarm.to_string(), |kind| kind.as_str_name().to_owned());
        format!("\"MemberID\" : {}\n\"AlarmType\" : {kind}\n\n", number(printer, alarm.member_id))
    };
    header(printer, answer.header.as_ref()) + &answer.alarms.iter().map(one).collect::<String>()
}

pub(super) fn members(printer: &Printer, answer: &pb::MemberListResponse) -> String {
    let mut text = header(printer, answer.header.as_ref());
    for member in &answer.members {
        text += &format!(
            "\"ID\" : {}\n\"Name\" : {}\n",
            number(printer, member.id),
            quote(member.name.as_bytes())
        );
        member
            .peer_ur_ls
            .iter()
            .for_each(|url| text += &format!("\"PeerURL\" : {}\n", quote(url.as_bytes())));
        member
            .client_ur_ls
            .iter()
            .for_each(|url| text += &format!("\"ClientURL\" : {}\n", quote(url.as_bytes())));
        text += &format!("\"IsLearner\" : {}\n\n", member.is_learner);
    }
    text
}

pub(super) fn health(list: &[Health]) -> String {
    let one = |health: &Health| {
        format!(
            "\"Endpoint\" : {}\n\"Health\" : {}\n\"Took\" : {}\n\"Error\" : {}\n\n",
            quote(health.endpoint.as_bytes()),
            health.healthy,
            health.took,
            health.error
        )
    };
    list.iter().map(one).collect()
}

pub(super) fn status(printer: &Printer, list: &[Of<pb::StatusResponse>]) -> String {
    let one = |of: &Of<pb::StatusResponse>| {
        let answer = &of.answer;
        let (target, enabled) = downgrade(answer);
        header(printer, answer.header.as_ref())
            + &format!(
                "\"Version\" : {}\n\"StorageVersion\" : {}\n\"DBSize\" : {}\n\"DBSizeInUse\" : {}\n\"DBSizeQuota\" : {}\n\
                 \"Leader\" : {}\n\"IsLearner\" : {}\n\"RaftIndex\" : {}\n\"RaftAppliedIndex\" : {}\n\"Errors\" : [{}]\n\
                 \"Endpoint\" : {}\n\"DowngradeTargetVersion\" : {}\n\"DowngradeEnabled\" : {enabled}\n\n",
                quote(answer.version.as_bytes()),
                quote(answer.storage_version.as_bytes()),
                answer.db_size,
                answer.db_size_in_use,
                answer.db_size_quota,
                answer.leader,
                answer.is_learner,
                answer.raft_index,
                answer.raft_applied_index,
                answer.errors.join(" "),
                quote(of.endpoint.as_bytes()),
                quote(target.as_bytes()),
            )
    };
    list.iter().map(one).collect()
}

/// Target and whether one is going on.
pub(super) fn downgrade(answer: &pb::StatusResponse) -> (String, bool) {
    answer.downgrade_info.clone().map_or_else(Default::default, |info| (info.target_version, info.enabled))
}

pub(super) fn hash(printer: &Printer, list: &[Of<pb::HashKvResponse>]) -> String {
    let one = |of: &Of<pb::HashKvResponse>| {
        header(printer, of.answer.header.as_ref())
            + &format!(
                "\"Endpoint\" : {}\n\"Hash\" : {}\n\"HashRevision\" : {}\n\n",
                quote(of.endpoint.as_bytes()),
                of.answer.hash,
                of.answer.hash_revision
            )
    };
    list.iter().map(one).collect()
}

pub(super) fn role(printer: &Printer, answer: &pb::AuthRoleGetResponse) -> String {
    let one = |permission: &authpb::Permission| {
        format!(
            "\"PermType\" :  {}\n\"Key\" : {}\n\"RangeEnd\" : {}\n",
            permission.perm_type().as_str_name(),
            quote(&permission.key),
            quote(&permission.range_end)
        )
    };
    header(printer, answer.header.as_ref()) + &answer.perm.iter().map(one).collect::<String>()
}

pub(super) fn roles(printer: &Printer, answer: &pb::AuthRoleListResponse) -> String {
    let names: String = answer.roles.iter().map(|role| format!(" {}", quote(role.as_bytes()))).collect();
    header(printer, answer.header.as_ref()) + "\"Roles\" :" + &names + "\n"
}
