//! Commands as bytes: the form in which they travel through the log.
//!
//! Owns: the encoding, which is one contiguous buffer per command. Called by: the proposer (encode) and apply (decode).
//! Invariants: the first byte is the format version; decoding any bytes either gives a command or an error, never a
//! panic; `decode(encode(c)) == c`; a decoded command shares the input buffer.
//!
//! Layout: `version u8 | tag u8 | body`. Numbers are LEB128 varints (signed ones zig-zag), byte strings are a varint
//! length followed by the bytes, lists a varint count followed by the items, flags one byte of bits.

mod auth;

use bytes::{Buf, BufMut, Bytes};

use auth::get_text;

use crate::types::{
    Alarm, AlarmKind, Caller, Command, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, Put,
    RangeOptions, SortOrder, SortTarget, Txn, TxnOp,
};

/// Version of the command format. A member refuses entries of a version it does not know.
pub const FORMAT_VERSION: u8 = 1;

/// Transactions nest at most this deep; the API's operation limit stops far earlier.
const DEPTH_MAX: u32 = 130;

/// Why bytes are not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum DecodeError {
    #[error(
        "command format version {0} is unknown to this build (it knows {FORMAT_VERSION}): upgrade this member"
    )]
    UnknownVersion(u8),
    #[error("unknown tag {tag} of {what}")]
    UnknownTag { what: &'static str, tag: u8 },
    #[error("the command ends in the middle of {0}")]
    Truncated(&'static str),
    #[error("{0} bytes follow the command")]
    TrailingBytes(usize),
    #[error("a name that is not text")]
    NotText,
    #[error("number of more than 64 bits")]
    NumberTooLong,
    #[error("transaction nested deeper than {DEPTH_MAX}")]
    TooDeep,
}

const TAG_PUT: u8 = 1;
const TAG_DELETE_RANGE: u8 = 2;
const TAG_TXN: u8 = 3;
const TAG_COMPACT: u8 = 4;
const TAG_LEASE_GRANT: u8 = 5;
const TAG_LEASE_REVOKE: u8 = 6;
const TAG_LEASE_CHECKPOINT: u8 = 7;
const TAG_ALARM_RAISE: u8 = 8;
const TAG_ALARM_CLEAR: u8 = 9;
const TAG_META_SET: u8 = 10;
const TAG_AUTH: u8 = 11;
const TAG_AS: u8 = 12;

/// Appends the encoded command to `out`.
pub fn encode(command: &Command, out: &mut impl BufMut) {
    out.put_u8(FORMAT_VERSION);
    put_command(command, out);
}

fn put_command(command: &Command, out: &mut impl BufMut) {
    match command {
        Command::Put(put) => {
            out.put_u8(TAG_PUT);
            put_put(put, out);
        }
        Command::DeleteRange(delete) => {
            out.put_u8(TAG_DELETE_RANGE);
            put_delete(delete, out);
        }
        Command::Txn(txn) => {
            out.put_u8(TAG_TXN);
            put_txn(txn, out);
        }
        Command::Compact { revision } => {
            out.put_u8(TAG_COMPACT);
            put_signed(*revision, out);
        }
        Command::LeaseGrant { id, ttl_s } => {
            out.put_u8(TAG_LEASE_GRANT);
            put_signed(*id, out);
            put_signed(*ttl_s, out);
        }
        Command::LeaseRevoke { id, term } => {
            out.put_u8(TAG_LEASE_REVOKE);
            put_signed(*id, out);
            out.put_u8(term.is_some() as u8);
            put_varint(term.unwrap_or(0), out);
        }
        Command::LeaseCheckpoint { remaining, term } => {
            out.put_u8(TAG_LEASE_CHECKPOINT);
            out.put_u8(term.is_some() as u8);
            put_varint(term.unwrap_or(0), out);
            put_varint(remaining.len() as u64, out);
            for (id, remaining_s) in remaining {
                put_signed(*id, out);
                put_signed(*remaining_s, out);
            }
        }
        Command::AlarmRaise(alarm) => {
            out.put_u8(TAG_ALARM_RAISE);
            put_alarm(alarm, out);
        }
        Command::AlarmClear(alarm) => {
            out.put_u8(TAG_ALARM_CLEAR);
            put_alarm(alarm, out);
        }
        Command::MetaSet { key, value } => {
            out.put_u8(TAG_META_SET);
            put_bytes(key, out);
            put_bytes(value, out);
        }
        Command::Auth(command) => {
            out.put_u8(TAG_AUTH);
            auth::put_auth(command, out);
        }
        Command::As { caller, command } => {
            debug_assert!(!matches!(**command, Command::As { .. }), "a command has one caller");
            out.put_u8(TAG_AS);
            put_bytes(caller.user.as_bytes(), out);
            put_varint(caller.auth_revision, out);
            put_command(command, out);
        }
    }
}

/// An upper bound of the encoded size in bytes, good enough to reserve a buffer once.
pub fn encoded_len_bound(command: &Command) -> usize {
    const NUMBER: usize = 10;
    2 + match command {
        Command::Auth(command) => auth::auth_bound(command),
        Command::As { caller, command } => 2 * NUMBER + caller.user.len() + encoded_len_bound(command),
        Command::Put(put) => put_bound(put),
        Command::DeleteRange(delete) => range_bound(&delete.range) + 1,
        Command::Txn(txn) => txn_bound(txn),
        Command::Compact { .. } => NUMBER,
        Command::LeaseGrant { .. } | Command::LeaseRevoke { .. } => 2 * NUMBER + 1,
        Command::LeaseCheckpoint { remaining, .. } => 1 + 2 * NUMBER + remaining.len() * 2 * NUMBER,
        Command::AlarmRaise(_) | Command::AlarmClear(_) => NUMBER + 1,
        Command::MetaSet { key, value } => 2 * NUMBER + key.len() + value.len(),
    }
}

/// Decodes exactly one command from `input`. Keys and values share `input`'s buffer.
///
/// # Errors
/// Anything but one whole command of a known version.
pub fn decode(mut input: Bytes) -> Result<Command, DecodeError> {
    let version = get_u8(&mut input, "the format version")?;
    if version != FORMAT_VERSION {
        return Err(DecodeError::UnknownVersion(version));
    }
    let command = match get_u8(&mut input, "the command tag")? {
        TAG_AS => {
            let caller = Caller { user: get_text(&mut input)?, auth_revision: get_varint(&mut input)? };
            let tag = get_u8(&mut input, "the command tag")?;
            Command::As { caller, command: Box::new(get_command(tag, &mut input)?) }
        }
        tag => get_command(tag, &mut input)?,
    };
    if input.is_empty() { Ok(command) } else { Err(DecodeError::TrailingBytes(input.len())) }
}

fn get_command(tag: u8, input: &mut Bytes) -> Result<Command, DecodeError> {
    Ok(match tag {
        TAG_PUT => Command::Put(get_put(input)?),
        TAG_DELETE_RANGE => Command::DeleteRange(get_delete(input)?),
        TAG_TXN => Command::Txn(get_txn(input, 0)?),
        TAG_COMPACT => Command::Compact { revision: get_signed(input)? },
        TAG_LEASE_GRANT => Command::LeaseGrant { id: get_signed(input)?, ttl_s: get_signed(input)? },
        TAG_LEASE_REVOKE => {
            let id = get_signed(input)?;
            let by_expiry = get_u8(input, "the revoke flag")? != 0;
            let term = get_varint(input)?;
            Command::LeaseRevoke { id, term: by_expiry.then_some(term) }
        }
        TAG_LEASE_CHECKPOINT => {
            let by_leader = get_u8(input, "the checkpoint flag")? != 0;
            let term = get_varint(input)?;
            let remaining = get_list(input, |input| Ok((get_signed(input)?, get_signed(input)?)))?;
            Command::LeaseCheckpoint { remaining, term: by_leader.then_some(term) }
        }
        TAG_ALARM_RAISE => Command::AlarmRaise(get_alarm(input)?),
        TAG_ALARM_CLEAR => Command::AlarmClear(get_alarm(input)?),
        TAG_META_SET => Command::MetaSet { key: get_bytes(input)?, value: get_bytes(input)? },
        TAG_AUTH => Command::Auth(auth::get_auth(input)?),
        tag => return Err(DecodeError::UnknownTag { what: "a command", tag }),
    })
}

fn put_bound(put: &Put) -> usize {
    put.key.len() + put.value.len() + 31
}

fn range_bound(range: &KeyRange) -> usize {
    range.key.len() + range.end.len() + 20
}

fn txn_bound(txn: &Txn) -> usize {
    let compare = |compare: &Compare| {
        let value = if let CompareTarget::Value(value) = &compare.target { value.len() } else { 0 };
        range_bound(&compare.range) + value + 12
    };
    let op = |op: &TxnOp| {
        1 + match op {
            TxnOp::Range(options) => range_bound(&options.range) + 64,
            TxnOp::Put(put) => put_bound(put),
            TxnOp::DeleteRange(delete) => range_bound(&delete.range) + 1,
            TxnOp::Txn(txn) => txn_bound(txn),
        }
    };
    30 + txn.compare.iter().map(compare).sum::<usize>()
        + txn.success.iter().chain(&txn.failure).map(op).sum::<usize>()
}

fn put_put(put: &Put, out: &mut impl BufMut) {
    out.put_u8(put.prev_kv as u8 | (put.ignore_value as u8) << 1 | (put.ignore_lease as u8) << 2);
    put_bytes(&put.key, out);
    put_bytes(&put.value, out);
    put_signed(put.lease, out);
}

fn get_put(input: &mut Bytes) -> Result<Put, DecodeError> {
    let flags = get_u8(input, "the flags of a put")?;
    Ok(Put {
        prev_kv: flags & 1 != 0,
        ignore_value: flags & 2 != 0,
        ignore_lease: flags & 4 != 0,
        key: get_bytes(input)?,
        value: get_bytes(input)?,
        lease: get_signed(input)?,
    })
}

fn put_range(range: &KeyRange, out: &mut impl BufMut) {
    put_bytes(&range.key, out);
    put_bytes(&range.end, out);
}

fn get_range(input: &mut Bytes) -> Result<KeyRange, DecodeError> {
    Ok(KeyRange { key: get_bytes(input)?, end: get_bytes(input)? })
}

fn put_delete(delete: &DeleteRange, out: &mut impl BufMut) {
    out.put_u8(delete.prev_kv as u8);
    put_range(&delete.range, out);
}

fn get_delete(input: &mut Bytes) -> Result<DeleteRange, DecodeError> {
    let flags = get_u8(input, "the flags of a delete")?;
    Ok(DeleteRange { prev_kv: flags & 1 != 0, range: get_range(input)? })
}

fn put_options(options: &RangeOptions, out: &mut impl BufMut) {
    out.put_u8(options.keys_only as u8 | (options.count_only as u8) << 1);
    out.put_u8(options.sort_order as u8);
    out.put_u8(options.sort_target as u8);
    put_range(&options.range, out);
    for number in [
        options.limit,
        options.revision,
        options.min_mod_revision,
        options.max_mod_revision,
        options.min_create_revision,
        options.max_create_revision,
    ] {
        put_signed(number, out);
    }
}

fn get_options(input: &mut Bytes) -> Result<RangeOptions, DecodeError> {
    let flags = get_u8(input, "the flags of a range")?;
    let sort_order = match get_u8(input, "a sort order")? {
        0 => SortOrder::None,
        1 => SortOrder::Ascend,
        2 => SortOrder::Descend,
        tag => return Err(DecodeError::UnknownTag { what: "a sort order", tag }),
    };
    let sort_target = match get_u8(input, "a sort target")? {
        0 => SortTarget::Key,
        1 => SortTarget::Version,
        2 => SortTarget::Create,
        3 => SortTarget::Mod,
        4 => SortTarget::Value,
        tag => return Err(DecodeError::UnknownTag { what: "a sort target", tag }),
    };
    Ok(RangeOptions {
        keys_only: flags & 1 != 0,
        count_only: flags & 2 != 0,
        sort_order,
        sort_target,
        range: get_range(input)?,
        limit: get_signed(input)?,
        revision: get_signed(input)?,
        min_mod_revision: get_signed(input)?,
        max_mod_revision: get_signed(input)?,
        min_create_revision: get_signed(input)?,
        max_create_revision: get_signed(input)?,
    })
}

fn put_txn(txn: &Txn, out: &mut impl BufMut) {
    put_varint(txn.compare.len() as u64, out);
    for compare in &txn.compare {
        put_compare(compare, out);
    }
    for branch in [&txn.success, &txn.failure] {
        put_varint(branch.len() as u64, out);
        for op in branch {
            put_op(op, out);
        }
    }
}

fn get_txn(input: &mut Bytes, depth: u32) -> Result<Txn, DecodeError> {
    if depth > DEPTH_MAX {
        return Err(DecodeError::TooDeep);
    }
    Ok(Txn {
        compare: get_list(input, get_compare)?,
        success: get_list(input, |input| get_op(input, depth))?,
        failure: get_list(input, |input| get_op(input, depth))?,
    })
}

fn put_op(op: &TxnOp, out: &mut impl BufMut) {
    match op {
        TxnOp::Range(options) => {
            out.put_u8(0);
            put_options(options, out);
        }
        TxnOp::Put(put) => {
            out.put_u8(1);
            put_put(put, out);
        }
        TxnOp::DeleteRange(delete) => {
            out.put_u8(2);
            put_delete(delete, out);
        }
        TxnOp::Txn(txn) => {
            out.put_u8(3);
            put_txn(txn, out);
        }
    }
}

fn get_op(input: &mut Bytes, depth: u32) -> Result<TxnOp, DecodeError> {
    Ok(match get_u8(input, "an operation tag")? {
        0 => TxnOp::Range(get_options(input)?),
        1 => TxnOp::Put(get_put(input)?),
        2 => TxnOp::DeleteRange(get_delete(input)?),
        3 => TxnOp::Txn(get_txn(input, depth + 1)?),
        tag => return Err(DecodeError::UnknownTag { what: "an operation", tag }),
    })
}

fn put_compare(compare: &Compare, out: &mut impl BufMut) {
    put_range(&compare.range, out);
    out.put_u8(compare.result as u8);
    match &compare.target {
        CompareTarget::Version(number) => put_target(0, *number, out),
        CompareTarget::Create(number) => put_target(1, *number, out),
        CompareTarget::Mod(number) => put_target(2, *number, out),
        CompareTarget::Lease(number) => put_target(4, *number, out),
        CompareTarget::Value(value) => {
            out.put_u8(3);
            put_bytes(value, out);
        }
    }
}

fn put_target(tag: u8, number: i64, out: &mut impl BufMut) {
    out.put_u8(tag);
    put_signed(number, out);
}

fn get_compare(input: &mut Bytes) -> Result<Compare, DecodeError> {
    let range = get_range(input)?;
    let result = match get_u8(input, "a compare result")? {
        0 => CompareResult::Equal,
        1 => CompareResult::Greater,
        2 => CompareResult::Less,
        3 => CompareResult::NotEqual,
        tag => return Err(DecodeError::UnknownTag { what: "a compare result", tag }),
    };
    let target = match get_u8(input, "a compare target")? {
        0 => CompareTarget::Version(get_signed(input)?),
        1 => CompareTarget::Create(get_signed(input)?),
        2 => CompareTarget::Mod(get_signed(input)?),
        3 => CompareTarget::Value(get_bytes(input)?),
        4 => CompareTarget::Lease(get_signed(input)?),
        tag => return Err(DecodeError::UnknownTag { what: "a compare target", tag }),
    };
    Ok(Compare { range, result, target })
}

fn put_alarm(alarm: &Alarm, out: &mut impl BufMut) {
    put_varint(alarm.member, out);
    out.put_u8(alarm.kind as u8);
}

fn get_alarm(input: &mut Bytes) -> Result<Alarm, DecodeError> {
    let member = get_varint(input)?;
    let kind = match get_u8(input, "an alarm kind")? {
        1 => AlarmKind::NoSpace,
        2 => AlarmKind::Corrupt,
        tag => return Err(DecodeError::UnknownTag { what: "an alarm kind", tag }),
    };
    Ok(Alarm { member, kind })
}

fn put_varint(mut number: u64, out: &mut impl BufMut) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn get_varint(input: &mut Bytes) -> Result<u64, DecodeError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = get_u8(input, "a number")?;
        if shift == 63 && byte > 1 {
            return Err(DecodeError::NumberTooLong);
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(DecodeError::NumberTooLong)
}

fn put_signed(number: i64, out: &mut impl BufMut) {
    put_varint(((number << 1) ^ (number >> 63)) as u64, out);
}

fn get_signed(input: &mut Bytes) -> Result<i64, DecodeError> {
    let number = get_varint(input)?;
    Ok((number >> 1) as i64 ^ -((number & 1) as i64))
}

fn put_bytes(bytes: &[u8], out: &mut impl BufMut) {
    put_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

fn get_bytes(input: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = get_varint(input)?;
    if len > input.len() as u64 {
        return Err(DecodeError::Truncated("a byte string"));
    }
    Ok(input.split_to(len as usize))
}

fn get_u8(input: &mut Bytes, what: &'static str) -> Result<u8, DecodeError> {
    if input.is_empty() { Err(DecodeError::Truncated(what)) } else { Ok(input.get_u8()) }
}

fn get_list<T>(
    input: &mut Bytes,
    mut item: impl FnMut(&mut Bytes) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = get_varint(input)?;
    // Every item takes at least one byte, so a count beyond the input is a lie and must not reserve memory.
    if count > input.len() as u64 {
        return Err(DecodeError::Truncated("a list"));
    }
    (0..count).map(|_| item(input)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{AuthCommand, Permission};

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        (bytes(), bytes()).prop_map(|(key, end)| KeyRange { key, end })
    }

    fn put() -> impl Strategy<Value = Put> {
        (bytes(), bytes(), any::<i64>(), any::<[bool; 3]>()).prop_map(|(key, value, lease, flags)| Put {
            key,
            value,
            lease,
            prev_kv: flags[0],
            ignore_value: flags[1],
            ignore_lease: flags[2],
        })
    }

    fn options() -> impl Strategy<Value = RangeOptions> {
        let orders = prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
        let targets = prop::sample::select(vec![
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ]);
        (range(), any::<[i64; 6]>(), orders, targets, any::<[bool; 2]>()).prop_map(
            |(range, numbers, sort_order, sort_target, flags)| RangeOptions {
                range,
                limit: numbers[0],
                revision: numbers[1],
                min_mod_revision: numbers[2],
                max_mod_revision: numbers[3],
                min_create_revision: numbers[4],
                max_create_revision: numbers[5],
                sort_order,
                sort_target,
                keys_only: flags[0],
                count_only: flags[1],
            },
        )
    }

    fn compare() -> impl Strategy<Value = Compare> {
        let results = prop::sample::select(vec![
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ]);
        let target = prop_oneof![
            any::<i64>().prop_map(CompareTarget::Version),
            any::<i64>().prop_map(CompareTarget::Create),
            any::<i64>().prop_map(CompareTarget::Mod),
            any::<i64>().prop_map(CompareTarget::Lease),
            bytes().prop_map(CompareTarget::Value),
        ];
        (range(), results, target).prop_map(|(range, result, target)| Compare { range, result, target })
    }

    fn delete() -> impl Strategy<Value = DeleteRange> {
        (range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRange { range, prev_kv })
    }

    fn txn() -> impl Strategy<Value = Txn> {
        let leaf = prop_oneof![
            options().prop_map(TxnOp::Range),
            put().prop_map(TxnOp::Put),
            delete().prop_map(TxnOp::DeleteRange)
        ];
        let op = leaf.prop_recursive(3, 16, 3, |inner| {
            (
                prop::collection::vec(compare(), 0..3),
                prop::collection::vec(inner.clone(), 0..3),
                prop::collection::vec(inner, 0..3),
            )
                .prop_map(|(compare, success, failure)| TxnOp::Txn(Txn { compare, success, failure }))
        });
        let ops = prop::collection::vec(op, 0..4);
        (prop::collection::vec(compare(), 0..4), ops.clone(), ops)
            .prop_map(|(compare, success, failure)| Txn { compare, success, failure })
    }

    fn command() -> impl Strategy<Value = Command> {
        let alarm = (any::<u64>(), prop::sample::select(vec![AlarmKind::NoSpace, AlarmKind::Corrupt]))
            .prop_map(|(member, kind)| Alarm { member, kind });
        prop_oneof![
            put().prop_map(Command::Put),
            delete().prop_map(Command::DeleteRange),
            txn().prop_map(Command::Txn),
            any::<i64>().prop_map(|revision| Command::Compact { revision }),
            any::<(i64, i64)>().prop_map(|(id, ttl_s)| Command::LeaseGrant { id, ttl_s }),
            any::<(i64, Option<u64>)>().prop_map(|(id, term)| Command::LeaseRevoke { id, term }),
            (prop::collection::vec(any::<(i64, i64)>(), 0..4), any::<Option<u64>>())
                .prop_map(|(remaining, term)| Command::LeaseCheckpoint { remaining, term }),
            alarm.clone().prop_map(Command::AlarmRaise),
            alarm.prop_map(Command::AlarmClear),
            (bytes(), bytes()).prop_map(|(key, value)| Command::MetaSet { key, value }),
            auth_command().prop_map(Command::Auth),
        ]
    }

    fn auth_command() -> impl Strategy<Value = AuthCommand> {
        let text = || "[a-zé]{0,3}";
        let permission = (any::<i32>(), range()).prop_map(|(kind, range)| Permission { kind, range });
        prop_oneof![
            Just(AuthCommand::Enable),
            Just(AuthCommand::Disable),
            (text(), text(), any::<u64>()).prop_map(|(user, token, checked_revision)| AuthCommand::Login {
                user,
                token,
                checked_revision
            }),
            (text(), prop::option::of(bytes()))
                .prop_map(|(name, password)| AuthCommand::UserAdd { name, password }),
            text().prop_map(|name| AuthCommand::UserDelete { name }),
            (text(), prop::option::of(bytes()))
                .prop_map(|(name, password)| AuthCommand::UserSetPassword { name, password }),
            (text(), text()).prop_map(|(user, role)| AuthCommand::UserGrantRole { user, role }),
            (text(), text()).prop_map(|(user, role)| AuthCommand::UserRevokeRole { user, role }),
            text().prop_map(|name| AuthCommand::RoleAdd { name }),
            text().prop_map(|name| AuthCommand::RoleDelete { name }),
            (text(), prop::option::of(permission))
                .prop_map(|(role, permission)| AuthCommand::RoleGrant { role, permission }),
            (text(), range()).prop_map(|(role, range)| AuthCommand::RoleRevoke { role, range }),
        ]
    }

    /// With and without a caller.
    fn called() -> impl Strategy<Value = Command> {
        let caller =
            ("[a-z]{0,3}", any::<u64>()).prop_map(|(user, auth_revision)| Caller { user, auth_revision });
        (prop::option::of(caller), command()).prop_map(|(caller, command)| match caller {
            Some(caller) => Command::As { caller, command: Box::new(command) },
            None => command,
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(command in called()) {
            let mut buffer = Vec::new();
            encode(&command, &mut buffer);
            prop_assert!(buffer.len() <= encoded_len_bound(&command));
            prop_assert_eq!(decode(Bytes::from(buffer)), Ok(command));
        }

        #[test]
        fn every_proper_prefix_is_refused(command in called(), cut in any::<prop::sample::Index>()) {
            let mut buffer = Vec::new();
            encode(&command, &mut buffer);
            buffer.truncate(cut.index(buffer.len()));
            prop_assert!(decode(Bytes::from(buffer)).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), tag in 0u8..14) {
            let _ = decode(Bytes::from([&[FORMAT_VERSION, tag], bytes.as_slice()].concat()));
        }
    }

    #[test]
    fn a_nest_without_end_is_refused() {
        // Tag of a transaction, no compares, one operation, which is again a transaction.
        let mut bytes = vec![FORMAT_VERSION, TAG_TXN];
        for _ in 0..100_000 {
            bytes.extend([0, 1, 3]);
        }
        assert_eq!(decode(Bytes::from(bytes)), Err(DecodeError::TooDeep));
    }

    #[test]
    fn a_command_has_one_caller() {
        let nobody = [TAG_AS, 0, 0];
        let bytes = [&[FORMAT_VERSION][..], &nobody, &nobody, &[TAG_AUTH, 1]].concat();
        let refused = DecodeError::UnknownTag { what: "a command", tag: TAG_AS };
        assert_eq!(decode(Bytes::from(bytes)), Err(refused));
    }

    #[test]
    fn a_version_from_the_future_is_named() {
        assert_eq!(decode(Bytes::from_static(&[9, 1])), Err(DecodeError::UnknownVersion(9)));
    }
}
