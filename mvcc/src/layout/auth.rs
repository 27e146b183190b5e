//! Users, roles and the state of authentication: rows of the family `meta`.
//!
//! `h`: `format u8 | enabled u8 | revision varint | closed varint`. `U | name`: `format u8 | no password u8 | since varint
//! | password | count varint | roles`. `R | name`: `format u8 | (kind signed | key | end)*`. Byte strings stand behind a
//! varint length.

use bytes::Bytes;

use super::{Fields, malformed, put_signed, put_varint};
use crate::auth::{Auth, Permission, User};
use crate::engine::EngineError;
use crate::types::KeyRange;

const FORMAT: u8 = 1;

/// Whether authentication is on, and its revision.
pub(crate) const AUTH_KEY: &[u8] = b"h";
/// Users.
pub(crate) const USER_ROW_PREFIX: &[u8] = b"U";
/// Roles.
pub(crate) const ROLE_ROW_PREFIX: &[u8] = b"R";

/// The key of a user's row.
pub(crate) fn user_row_key(name: &str) -> Vec<u8> {
    [USER_ROW_PREFIX, name.as_bytes()].concat()
}

/// The key of a role's row.
pub(crate) fn role_row_key(name: &str) -> Vec<u8> {
    [ROLE_ROW_PREFIX, name.as_bytes()].concat()
}

/// Parses the key of a user's or a role's row.
pub(crate) fn parse_name(bytes: &[u8]) -> Result<String, EngineError> {
    let name = bytes.get(1..).and_then(|name| String::from_utf8(name.to_vec()).ok());
    name.ok_or_else(|| malformed("name of a user or role", bytes))
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends the row of the state.
pub(crate) fn auth_value(auth: &Auth, out: &mut Vec<u8>) {
    out.extend_from_slice(&[FORMAT, u8::from(auth.is_enabled())]);
    put_varint(auth.revision(), out);
    put_varint(auth.closed(), out);
}

/// Parses the row of the state; users and roles are rows of their own.
pub(crate) fn parse_auth(bytes: &[u8]) -> Result<Auth, EngineError> {
    let parse = || {
        let mut fields = Fields(bytes);
        fields.version(FORMAT)?;
        let auth = Auth::restore(fields.byte()? != 0, fields.varint()?, fields.varint()?);
        fields.rest().is_empty().then_some(auth)
    };
    parse().ok_or_else(|| malformed("state of authentication", bytes))
}

/// Appends the row of a user.
pub(crate) fn user_row(user: &User, out: &mut Vec<u8>) {
    out.extend_from_slice(&[FORMAT, u8::from(user.no_password)]);
    put_varint(user.since, out);
    put_bytes(&user.password, out);
    put_varint(user.roles.len() as u64, out);
    user.roles.iter().for_each(|role| put_bytes(role.as_bytes(), out));
}

/// Parses the row of a user.
pub(crate) fn parse_user_row(bytes: &[u8]) -> Result<User, EngineError> {
    let parse = || {
        let mut fields = Fields(bytes);
        fields.version(FORMAT)?;
        let no_password = fields.byte()? != 0;
        let since = fields.varint()?;
        let password = Bytes::copy_from_slice(fields.bytes()?);
        let mut roles = Vec::new();
        for _ in 0..fields.varint()? {
            roles.push(String::from_utf8(fields.bytes()?.to_vec()).ok()?);
        }
        fields.rest().is_empty().then(|| User::new(password, no_password, roles, since))
    };
    parse().ok_or_else(|| malformed("user", bytes))
}

/// Appends the row of a role.
pub(crate) fn role_row(permissions: &[Permission], out: &mut Vec<u8>) {
    out.push(FORMAT);
    for permission in permissions {
        put_signed(i64::from(permission.kind), out);
        put_bytes(&permission.range.key, out);
        put_bytes(&permission.range.end, out);
    }
}

/// Parses the row of a role.
pub(crate) fn parse_role_row(bytes: &[u8]) -> Result<Vec<Permission>, EngineError> {
    let parse = || {
        let mut fields = Fields(bytes);
        fields.version(FORMAT)?;
        let mut permissions = Vec::new();
        while !fields.0.is_empty() {
            let kind = i32::try_from(fields.signed()?).ok()?;
            let key = Bytes::copy_from_slice(fields.bytes()?);
            let end = Bytes::copy_from_slice(fields.bytes()?);
            permissions.push(Permission { kind, range: KeyRange { key, end } });
        }
        Some(permissions)
    };
    parse().ok_or_else(|| malformed("role", bytes))
}
