//! The commands about users, roles and authentication.
//!
//! Called by: the table of all commands.

use super::spec::{Action, Command, Flag};

const PERMISSION: &[Flag] = &[
    Flag::switch("prefix", "All keys that begin with the given one"),
    Flag::switch("from-key", "The given key and all behind it"),
];

/// `auth` and below.
pub(super) const AUTH: Command = Command::group(
    "auth",
    "Authentication",
    &[
        Command::leaf("enable", "", Action::AuthEnable, "Ask for users from now on", "auth enable"),
        Command::leaf("disable", "", Action::AuthDisable, "Ask for users no longer", "auth disable"),
        Command::leaf("status", "", Action::AuthStatus, "Whether users are asked for", "auth status"),
    ],
);

/// `user` and below.
pub(super) const USER: Command = Command::group(
    "user",
    "Users",
    &[
        Command::leaf("add", "<name[:password]>", Action::UserAdd, "Make a user", "user add alice").with(&[
            Flag::switch("interactive", "Ask at the terminal; false reads from standard input").or("true"),
            Flag::text("new-user-password", "The password"),
            Flag::switch("no-password", "For a user who comes with a certificate"),
        ]),
        Command::leaf("delete", "<name>", Action::UserDelete, "Remove a user", "user delete alice"),
        Command::leaf("get", "<name>", Action::UserGet, "Roles of a user", "user get alice --detail")
            .with(&[Flag::switch("detail", "With the permissions of the roles")]),
        Command::leaf("list", "", Action::UserList, "List all users", "user list"),
        Command::leaf("passwd", "<name>", Action::UserPasswd, "Change a password", "user passwd alice")
            .with(&[Flag::switch("interactive", "Ask at the terminal; false reads from standard input")
                .or("true")]),
        Command::leaf(
            "grant-role",
            "<name> <role>",
            Action::UserGrantRole,
            "Give a user a role",
            "user grant-role alice reader",
        ),
        Command::leaf(
            "revoke-role",
            "<name> <role>",
            Action::UserRevokeRole,
            "Take a role from a user",
            "user revoke-role alice reader",
        ),
    ],
);

/// `role` and below.
pub(super) const ROLE: Command = Command::group(
    "role",
    "Roles",
    &[
        Command::leaf("add", "<role>", Action::RoleAdd, "Make a role", "role add reader"),
        Command::leaf("delete", "<role>", Action::RoleDelete, "Remove a role", "role delete reader"),
        Command::leaf("get", "<role>", Action::RoleGet, "Permissions of a role", "role get reader"),
        Command::leaf("list", "", Action::RoleList, "List all roles", "role list"),
        Command::leaf(
            "grant-permission",
            "<role> <read|write|readwrite> <key> [endkey]",
            Action::RoleGrantPermission,
            "Let a role read or write keys",
            "role grant-permission --prefix=true reader read /app/",
        )
        .with(PERMISSION),
        Command::leaf(
            "revoke-permission",
            "<role> <key> [endkey]",
            Action::RoleRevokePermission,
            "Take keys from a role",
            "role revoke-permission reader /app/ --prefix=true",
        )
        .with(PERMISSION),
    ],
);
