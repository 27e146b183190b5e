//! The bytes of what changes authentication: `kind u8`, then the fields in order; an optional field behind a flag.
//! Decoded values are copies: they outlive the buffer of the entry by far.

use bytes::{BufMut, Bytes};

use super::{DecodeError, get_bytes, get_signed, get_u8, get_varint, put_bytes, put_signed, put_varint};
use crate::types::{AuthCommand, KeyRange, Permission};

const ENABLE: u8 = 1;
const DISABLE: u8 = 2;
const LOGIN: u8 = 3;
const USER_ADD: u8 = 4;
const USER_DELETE: u8 = 5;
const USER_SET_PASSWORD: u8 = 6;
const USER_GRANT_ROLE: u8 = 7;
const USER_REVOKE_ROLE: u8 = 8;
const ROLE_ADD: u8 = 9;
const ROLE_DELETE: u8 = 10;
const ROLE_GRANT: u8 = 11;
const ROLE_REVOKE: u8 = 12;

pub(super) fn put_auth(command: &AuthCommand, out: &mut impl BufMut) {
    match command {
        AuthCommand::Enable => out.put_u8(ENABLE),
        AuthCommand::Disable => out.put_u8(DISABLE),
        AuthCommand::Login { user, token, checked_revision } => {
            put_texts(LOGIN, [user, token], out);
            put_varint(*checked_revision, out);
        }
        AuthCommand::UserAdd { name, password } => {
            put_texts(USER_ADD, [name], out);
            put_option(password.as_ref(), out, |hash, out| put_bytes(hash, out));
        }
        AuthCommand::UserDelete { name } => put_texts(USER_DELETE, [name], out),
        AuthCommand::UserSetPassword { name, password } => {
            put_texts(USER_SET_PASSWORD, [name], out);
            put_option(password.as_ref(), out, |hash, out| put_bytes(hash, out));
        }
        AuthCommand::UserGrantRole { user, role } => put_texts(USER_GRANT_ROLE, [user, role], out),
        AuthCommand::UserRevokeRole { user, role } => put_texts(USER_REVOKE_ROLE, [user, role], out),
        AuthCommand::RoleAdd { name } => put_texts(ROLE_ADD, [name], out),
        AuthCommand::RoleDelete { name } => put_texts(ROLE_DELETE, [name], out),
        AuthCommand::RoleGrant { role, permission } => {
            put_texts(ROLE_GRANT, [role], out);
            put_option(permission.as_ref(), out, |permission, out| {
                put_signed(i64::from(permission.kind), out);
                put_range(&permission.range, out);
            });
        }
        AuthCommand::RoleRevoke { role, range } => {
            put_texts(ROLE_REVOKE, [role], out);
            put_range(range, out);
        }
    }
}

/// An upper bound of the encoded size in bytes.
pub(super) fn auth_bound(command: &AuthCommand) -> usize {
    let texts = |texts: &[&String]| texts.iter().map(|text| text.len() + 10).sum::<usize>();
    let range = |range: &KeyRange| range.key.len() + range.end.len() + 20;
    16 + match command {
        AuthCommand::Enable | AuthCommand::Disable => 0,
        AuthCommand::Login { user, token, .. } => texts(&[user, token]),
        AuthCommand::UserAdd { name, password } | AuthCommand::UserSetPassword { name, password } => {
            texts(&[name]) + password.as_ref().map_or(0, |password| password.len() + 10)
        }
        AuthCommand::UserDelete { name }
        | AuthCommand::RoleAdd { name }
        | AuthCommand::RoleDelete { name } => texts(&[name]),
        AuthCommand::UserGrantRole { user, role } | AuthCommand::UserRevokeRole { user, role } => {
            texts(&[user, role])
        }
        AuthCommand::RoleGrant { role, permission } => {
            texts(&[role]) + permission.as_ref().map_or(0, |permission| range(&permission.range) + 10)
        }
        AuthCommand::RoleRevoke { role, range: keys } => texts(&[role]) + range(keys),
    }
}

pub(super) fn get_auth(input: &mut Bytes) -> Result<AuthCommand, DecodeError> {
    Ok(match get_u8(input, "what an auth command changes")? {
        ENABLE => AuthCommand::Enable,
        DISABLE => AuthCommand::Disable,
        LOGIN => AuthCommand::Login {
            user: get_text(input)?,
            token: get_text(input)?,
            checked_revision: get_varint(input)?,
        },
        USER_ADD => AuthCommand::UserAdd { name: get_text(input)?, password: get_option(input, get_copy)? },
        USER_DELETE => AuthCommand::UserDelete { name: get_text(input)? },
        USER_SET_PASSWORD => {
            AuthCommand::UserSetPassword { name: get_text(input)?, password: get_option(input, get_copy)? }
        }
        USER_GRANT_ROLE => AuthCommand::UserGrantRole { user: get_text(input)?, role: get_text(input)? },
        USER_REVOKE_ROLE => AuthCommand::UserRevokeRole { user: get_text(input)?, role: get_text(input)? },
        ROLE_ADD => AuthCommand::RoleAdd { name: get_text(input)? },
        ROLE_DELETE => AuthCommand::RoleDelete { name: get_text(input)? },
        ROLE_GRANT => AuthCommand::RoleGrant {
            role: get_text(input)?,
            permission: get_option(input, |input| {
                let kind = i32::try_from(get_signed(input)?).map_err(|_| DecodeError::NumberTooLong)?;
                Ok(Permission { kind, range: get_range(input)? })
            })?,
        },
        ROLE_REVOKE => AuthCommand::RoleRevoke { role: get_text(input)?, range: get_range(input)? },
        tag => return Err(DecodeError::UnknownTag { what: "an auth command", tag }),
    })
}

pub(super) fn get_text(input: &mut Bytes) -> Result<String, DecodeError> {
    String::from_utf8(get_bytes(input)?.to_vec()).map_err(|_| DecodeError::NotText)
}

fn put_texts<const N: usize>(kind: u8, texts: [&String; N], out: &mut impl BufMut) {
    out.put_u8(kind);
    for text in texts {
        put_varint(text.len() as u64, out);
        out.put_slice(text.as_bytes());
    }
}

fn put_option<T, B: BufMut>(value: Option<&T>, out: &mut B, put: impl FnOnce(&T, &mut B)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(value, out);
    }
}

fn get_option<T>(
    input: &mut Bytes,
    get: impl FnOnce(&mut Bytes) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if get_u8(input, "a flag")? == 0 { Ok(None) } else { get(input).map(Some) }
}

fn put_range(range: &KeyRange, out: &mut impl BufMut) {
    put_bytes(&range.key, out);
    put_bytes(&range.end, out);
}

fn get_range(input: &mut Bytes) -> Result<KeyRange, DecodeError> {
    Ok(KeyRange { key: get_copy(input)?, end: get_copy(input)? })
}

fn get_copy(input: &mut Bytes) -> Result<Bytes, DecodeError> {
    Ok(Bytes::copy_from_slice(&get_bytes(input)?))
}
