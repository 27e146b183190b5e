//! The simple form: what a person reads, or a script that asks for one thing.

use keelson_proto::mvccpb::event::EventType;
use keelson_proto::{authpb, etcdserverpb as pb, mvccpb};

use super::{Health, Printer, out};
use crate::failure::Failure;

pub(super) fn get(printer: &Printer, answer: &pb::RangeResponse) -> Vec<u8> {
    answer.kvs.iter().flat_map(|kv| pair(printer, kv)).collect()
}

pub(super) fn put(printer: &Printer, answer: &pb::PutResponse) -> Vec<u8> {
    let mut text = b"OK\n".to_vec();
    text.extend(answer.prev_kv.iter().flat_map(|kv| pair(printer, kv)));
    text
}

pub(super) fn del(printer: &Printer, answer: &pb::DeleteRangeResponse) -> Vec<u8> {
    let mut text = format!("{}\n", answer.deleted).into_bytes();
    text.extend(answer.prev_kvs.iter().flat_map(|kv| pair(printer, kv)));
    text
}

pub(super) fn txn(printer: &Printer, answer: &pb::TxnResponse) -> Vec<u8> {
    use pb::response_op::Response;
    let mut text = if answer.succeeded { b"SUCCESS\n".to_vec() } else { b"FAILURE\n".to_vec() };
    for one in &answer.responses {
        text.push(b'\n');
        text.extend(match &one.response {
            Some(Response::ResponseRange(answer)) => get(printer, answer),
            Some(Response::ResponsePut(answer)) => put(printer, answer),
            Some(Response::ResponseDeleteRange(answer)) => del(printer, answer),
            // No transaction that this client sends has one inside.
            Some(Response::ResponseTxn(_)) | None => b"unexpected response\n".to_vec(),
        });
    }
    text
}

pub(super) fn watch(printer: &Printer, answer: &pb::WatchResponse) -> Vec<u8> {
    let mut text = Vec::new();
    for event in &answer.events {
        text.extend_from_slice(event_name(event).as_bytes());
        text.push(b'\n');
        text.extend(event.prev_kv.iter().flat_map(|kv| pair(printer, kv)));
        text.extend(pair(printer, &event.kv.clone().unwrap_or_default()));
    }
    text
}

/// `PUT` or `DELETE`.
pub(crate) fn event_name(event: &mvccpb::Event) -> &'static str {
    match event.r#type() {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    }
}

fn pair(printer: &Printer, kv: &mvccpb::KeyValue) -> Vec<u8> {
    let shown = |bytes: &[u8]| match printer.hex {
        true => bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>().into_bytes(),
        false => bytes.to_vec(),
    };
    let mut text = Vec::new();
    if !printer.value_only {
        text.extend(shown(&kv.key));
        text.push(b'\n');
    }
    text.extend(shown(&kv.value));
    text.push(b'\n');
    text
}

pub(super) fn time_to_live(answer: &pb::LeaseTimeToLiveResponse, keys: bool) -> Vec<u8> {
    if answer.granted_ttl == 0 && answer.ttl == -1 {
        return format!("lease {:016x} already expired\n", answer.id).into_bytes();
    }
    let mut text = format!(
        "lease {:016x} granted with TTL({}s), remaining({}s)",
        answer.id, answer.granted_ttl, answer.ttl
    )
    .into_bytes();
    if keys {
        text.extend_from_slice(b", attached keys([");
        text.extend(answer.keys.join(&b' '));
        text.extend_from_slice(b"])");
    }
    text.push(b'\n');
    text
}

pub(super) fn alarm(answer: &pb::AlarmResponse) -> String {
    let one = |alarm: &pb::AlarmMember| {
        let mut parts = Vec::new();
        if alarm.member_id != 0 {
            parts.push(format!("memberID:{}", alarm.member_id));
        }
        if alarm.alarm != 0 {
            let name = pb::AlarmType::try_from(alarm.alarm)
                .map_or_else(|_| alarm.alarm.to_string(), |kind| kind.as_str_name().to_owned());
            parts.push(format!("alarm:{name}"));
        }
        parts.join("  ") + "\n"
    };
    answer.alarms.iter().map(one).collect()
}

/// Healthy ones go to standard output, the others to standard error.
pub(super) fn health(list: &[Health]) -> Result<(), Failure> {
    for one in list {
        if one.error.is_empty() {
            out::line(&format!(
                "{} is healthy: successfully committed proposal: took = {}",
                one.endpoint, one.took
            ))?;
        } else {
            eprintln!("{} is unhealthy: failed to commit proposal: {}", one.endpoint, one.error);
        }
    }
    Ok(())
}

pub(super) fn lines(names: &[String]) -> Vec<u8> {
    names.iter().map(|name| format!("{name}\n")).collect::<String>().into_bytes()
}

pub(super) fn role(role: &str, answer: &pb::AuthRoleGetResponse) -> Vec<u8> {
    use authpb::permission::Type;
    let mut text = format!("Role {role}\n").into_bytes();
    if role == "root" && answer.perm.is_empty() {
        text.extend_from_slice(b"KV Read:\n\t[, <open ended>\nKV Write:\n\t[, <open ended>\n");
        return text;
    }
    for (title, own) in [("KV Read:\n", Type::Read), ("KV Write:\n", Type::Write)] {
        text.extend_from_slice(title.as_bytes());
        let wanted =
            |permission: &&authpb::Permission| [own, Type::Readwrite].contains(&permission.perm_type());
        answer.perm.iter().filter(wanted).for_each(|permission| text.extend(range(permission)));
    }
    text
}

fn range(permission: &authpb::Permission) -> Vec<u8> {
    let (key, end) = (&permission.key, &permission.range_end);
    let mut text = b"\t".to_vec();
    if end.is_empty() {
        text.extend_from_slice(key);
    } else {
        text.push(b'[');
        text.extend_from_slice(key);
        text.extend_from_slice(b", ");
        if end[..] == [0] {
            text.extend_from_slice(b"<open ended>");
        } else {
            text.extend_from_slice(end);
            text.push(b')');
        }
        if !key.is_empty() && crate::commands::range::prefix_end(key) == end[..] {
            text.extend_from_slice(b" (prefix ");
            text.extend_from_slice(key);
            text.push(b')');
        }
    }
    text.push(b'\n');
    text
}
