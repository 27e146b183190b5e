//! Ranges of keys as flags give them.

use bytes::Bytes;
use keelson_proto::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};

use crate::failure::{FEATURE, Failure};
use crate::line::parse::Call;

/// The first key behind all that begin with `prefix`; a zero byte alone means there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    match prefix.iter().rposition(|byte| *byte < 0xff) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end
        }
        None => vec![0],
    }
}

/// Key and end of all that begin with `prefix`, or of all there are.
pub(crate) fn prefix(prefix: &str) -> (Bytes, Bytes) {
    if prefix.is_empty() {
        return (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    }
    (Bytes::copy_from_slice(prefix.as_bytes()), prefix_end(prefix.as_bytes()).into())
}

/// Key and end as `get` and `del` take them.
pub(crate) fn of(call: &Call) -> Result<(Bytes, Bytes), Failure> {
    let key = &call.arguments[0];
    let (by_prefix, from_key) = (call.switch("prefix"), call.switch("from-key"));
    if by_prefix && from_key {
        return Err(Failure::arguments(
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        ));
    }
    match call.arguments.get(1) {
        Some(_) if by_prefix || from_key => Err(Failure::arguments(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        )),
        Some(end) => Ok((Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(end.as_bytes()))),
        None if by_prefix => Ok(prefix(key)),
        None if from_key => {
            let first = if key.is_empty() { &[0][..] } else { key.as_bytes() };
            Ok((Bytes::copy_from_slice(first), Bytes::from_static(b"\0")))
        }
        None => Ok((Bytes::copy_from_slice(key.as_bytes()), Bytes::new())),
    }
}

/// The request of a `get`.
pub(crate) fn get_request(call: &Call) -> Result<pb::RangeRequest, Failure> {
    if call.arguments.is_empty() {
        return Err(Failure::arguments(
            "get command needs one argument as key and an optional argument as range_end",
        ));
    }
    let (keys_only, count_only) = (call.switch("keys-only"), call.switch("count-only"));
    if keys_only && count_only && !(call.switch("prefix") && call.switch("from-key")) {
        return Err(Failure::arguments(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ));
    }
    let (key, range_end) = of(call)?;
    let serializable = is_serializable(call.text("consistency"))?;
    let target = sort_target(call.text("sort-by"))?;
    let order = match sort_order(call.text("order"))? {
        // Keys come in this order anyway.
        SortOrder::Ascend if target == SortTarget::Key => SortOrder::None,
        order => order,
    };
    let bound = |low: &str, high: &str, names: (&str, &str)| {
        let (low, high) = (call.number(low).max(0), call.number(high).max(0));
        if high > 0 && low > high {
            return Err(Failure::new(FEATURE, format!("{}(={low}) > {}(={high})", names.0, names.1)));
        }
        Ok((low, high))
    };
    let created = bound("min-create-rev", "max-create-rev", ("getMinCreateRev", "getMaxCreateRev"))?;
    let changed = bound("min-mod-rev", "max-mod-rev", ("getMinModRev", "getMaxModRev"))?;
    Ok(pb::RangeRequest {
        key,
        range_end,
        limit: call.number("limit"),
        revision: call.number("rev").max(0),
        sort_order: order.into(),
        sort_target: target.into(),
        serializable,
        keys_only,
        count_only,
        min_create_revision: created.0,
        max_create_revision: created.1,
        min_mod_revision: changed.0,
        max_mod_revision: changed.1,
    })
}

/// Whether reads may be of a member that is behind.
pub(crate) fn is_serializable(consistency: &str) -> Result<bool, Failure> {
    match consistency {
        "s" => Ok(true),
        "l" => Ok(false),
        other => Err(Failure::new(
            FEATURE,
            format!("unknown consistency flag {}", crate::go::quote(other.as_bytes())),
        )
        .help("--consistency is l (linearizable) or s (serializable)")),
    }
}

fn sort_order(text: &str) -> Result<SortOrder, Failure> {
    match text.to_uppercase().as_str() {
        "" => Ok(SortOrder::None),
        "ASCEND" => Ok(SortOrder::Ascend),
        "DESCEND" => Ok(SortOrder::Descend),
        _ => {
            Err(Failure::new(FEATURE, format!("bad sort order {text}")).help("--order is ASCEND or DESCEND"))
        }
    }
}

fn sort_target(text: &str) -> Result<SortTarget, Failure> {
    match text.to_uppercase().as_str() {
        "" | "KEY" => Ok(SortTarget::Key),
        "CREATE" => Ok(SortTarget::Create),
        "MODIFY" => Ok(SortTarget::Mod),
        "VALUE" => Ok(SortTarget::Value),
        "VERSION" => Ok(SortTarget::Version),
        _ => Err(Failure::new(FEATURE, format!("bad sort target {text}"))
            .help("--sort-by is CREATE, KEY, MODIFY, VALUE or VERSION")),
    }
}

/// The request of a `del`.
pub(crate) fn del_request(call: &Call) -> Result<pb::DeleteRangeRequest, Failure> {
    if !(1..=2).contains(&call.arguments.len()) {
        return Err(Failure::arguments(
            "del command needs one argument as key and an optional argument as range_end",
        ));
    }
    let (key, range_end) = of(call)?;
    Ok(pb::DeleteRangeRequest { key, range_end, prev_kv: call.switch("prev-kv") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_one() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
        assert_eq!(prefix(""), (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")));
    }
}
