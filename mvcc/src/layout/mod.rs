//! The bytes of every row: what a key and a value look like in each family.
//!
//! Owns: encoding and decoding, one file per family. Called by: apply, every reader, the engines (for the one
//! question whether a `hist` row is dead). Invariants: encoded keys sort as the things they stand for; the first
//! byte of every value is the format version of its kind; decoding any bytes gives a row or an error, never a panic.
//! Drawn in `DESIGN.md`.

mod auth;
mod hist;
mod lease;
mod log;
mod meta;
mod row;
mod varint;

pub(crate) use auth::{
    AUTH_KEY, ROLE_ROW_PREFIX, USER_ROW_PREFIX, auth_value, parse_auth, parse_name, parse_role_row,
    parse_user_row, role_row, role_row_key, user_row, user_row_key,
};
pub(crate) use hist::{
    after_key, hist_is_dead, hist_key, hist_key_prefix, hist_value, parse_hist_key, parse_hist_value,
};
pub(crate) use lease::{
    attachment_key, attachment_prefix, lease_key, lease_prefix, lease_value, parse_attachment_key,
    parse_lease_key, parse_lease_value,
};
pub(crate) use log::{LogRow, log_key, log_value, parse_log_key, parse_log_value};
pub(crate) use meta::{
    ALARM_PREFIX, MEMBERSHIP_KEY, STATE_KEY, USER_PREFIX, alarm_key, is_local, local_key, parse_alarm_key,
    user_key,
};
pub(crate) use row::{Row, RowRef, latest_value, parse_latest};
pub(crate) use varint::{Fields, put_signed, put_varint};

use crate::engine::EngineError;

/// The error for bytes that are not a row.
pub(crate) fn malformed(what: &'static str, bytes: &[u8]) -> EngineError {
    let head = &bytes[..bytes.len().min(24)];
    EngineError::new(
        "decode a stored row",
        format_args!("malformed {what} of {} bytes: {head:02x?}", bytes.len()),
    )
}

/// The smallest byte string greater than every string that starts with `prefix`, or `None` if there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
