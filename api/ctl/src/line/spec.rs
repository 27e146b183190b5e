//! What a command and a flag are.
//!
//! Called by: the tables, parsing, help, and the program's own completions.

/// One command, possibly with commands below it.
#[derive(Debug)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// What it takes, as help shows it.
    pub usage: &'static str,
    /// One line.
    pub about: &'static str,
    /// Its own flags.
    pub flags: &'static [Flag],
    /// Commands below it.
    pub commands: &'static [Command],
    /// What it does; none for a mere group.
    pub action: Option<Action>,
    /// A line to copy.
    pub example: &'static str,
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// With two dashes.
    pub name: &'static str,
    /// With one dash.
    pub short: Option<char>,
    /// What its value is.
    pub kind: Kind,
    /// Taken where it is not given.
    pub default: &'static str,
    /// One line.
    pub about: &'static str,
}

/// What the value of a flag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// May stand without a value.
    Switch,
    /// Any text.
    Text,
    /// A whole number.
    Number,
    /// A whole number that is not negative.
    Count,
    /// Such as `5s`.
    Duration,
    /// Separated by commas; several flags add up.
    List,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the command of the same name")]
pub enum Action {
    Get,
    Put,
    Del,
    Txn,
    Watch,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseList,
    LeaseKeepAlive,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberList,
    MemberPromote,
    EndpointHealth,
    EndpointStatus,
    EndpointHashKv,
    AlarmList,
    AlarmDisarm,
    MoveLeader,
    Defrag,
    SnapshotSave,
    DowngradeValidate,
    DowngradeEnable,
    DowngradeCancel,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    UserAdd,
    UserDelete,
    UserGet,
    UserList,
    UserPasswd,
    UserGrantRole,
    UserRevokeRole,
    RoleAdd,
    RoleDelete,
    RoleGet,
    RoleList,
    RoleGrantPermission,
    RoleRevokePermission,
    Lock,
    Elect,
    CheckPerf,
    CheckDatascale,
    MakeMirror,
    Completion,
    Options,
    Version,
}

impl Flag {
    /// A switch that is off.
    pub(super) const fn switch(name: &'static str, about: &'static str) -> Self {
        Self { name, short: None, kind: Kind::Switch, default: "false", about }
    }

    /// A text that is empty.
    pub(super) const fn text(name: &'static str, about: &'static str) -> Self {
        Self { name, short: None, kind: Kind::Text, default: "", about }
    }

    /// A number that is 0.
    pub(super) const fn number(name: &'static str, about: &'static str) -> Self {
        Self { name, short: None, kind: Kind::Number, default: "0", about }
    }

    /// A period.
    pub(super) const fn duration(name: &'static str, default: &'static str, about: &'static str) -> Self {
        Self { name, short: None, kind: Kind::Duration, default, about }
    }

    /// The same with a letter.
    pub(super) const fn letter(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    /// The same with another default.
    pub(super) const fn or(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }
}

impl Command {
    /// A group of commands.
    pub(super) const fn group(name: &'static str, about: &'static str, commands: &'static [Command]) -> Self {
        Self { name, usage: "<command>", about, flags: &[], commands, action: None, example: "" }
    }

    /// A command.
    pub(super) const fn leaf(
        name: &'static str,
        usage: &'static str,
        action: Action,
        about: &'static str,
        example: &'static str,
    ) -> Self {
        Self { name, usage, about, flags: &[], commands: &[], action: Some(action), example }
    }

    /// The same with flags.
    pub(super) const fn with(mut self, flags: &'static [Flag]) -> Self {
        self.flags = flags;
        self
    }
}
