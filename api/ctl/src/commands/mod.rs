//! What the commands do.
//!
//! Owns: [`Context`], dispatch. Invariant: arguments are checked before anything is connected. Called by: `run`.
//! Source: etcdctl 3.7.3, ctlv3/command.

mod auth;
mod check;
mod elect;
mod endpoint;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod member;
mod mirror;
mod outside;
pub(crate) mod range;
mod role;
mod session;
mod signals;
mod snapshot;
mod txn;
mod txn_text;
mod user;
mod watch;
mod watch_line;
mod watcher;

use crate::failure::Failure;
use crate::line::parse::Call;
use crate::line::spec::Action;
use crate::line::{environment, help};
use crate::net::client::Client;
use crate::net::settings::Settings;
use crate::print::{Printer, out};

/// What a command gets.
pub(crate) struct Context<'a> {
    pub(crate) call: Call,
    pub(crate) settings: Settings,
    pub(crate) printer: Printer,
    pub(crate) environment: &'a [(String, String)],
}

impl Context<'_> {
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Client::open(&self.settings).await
    }

    pub(crate) fn arguments(&self) -> &[String] {
        &self.call.arguments
    }
}

type Done = Result<(), Failure>;

/// Runs one command.
///
/// # Errors
/// Whatever stops it.
pub(crate) async fn run(call: &Call, environment: &[(String, String)]) -> Done {
    match call.action {
        Action::Version => {
            return out::text("etcdctl version: 3.7.3\nAPI version: 3.7\n");
        }
        Action::Completion => {
            return Err(Failure::arguments("completion takes one shell").help(
                "`keelson completion bash` prints those of the whole program; also zsh, fish, powershell",
            ));
        }
        Action::Options => return out::text(&help::options()),
        _ => {}
    }
    let mut call = call.clone();
    environment::apply(&mut call, environment)?;
    let printer = Printer::new(call.text("write-out"), call.switch("hex"))?;
    let settings = Settings::from_call(&call)?;
    let context = Context { call, settings, printer, environment };
    dispatch(&context).await
}

async fn dispatch(context: &Context<'_>) -> Done {
    match context.call.action {
        Action::Get => kv::get(context).await,
        Action::Put => kv::put(context).await,
        Action::Del => kv::del(context).await,
        Action::Txn => txn::run(context).await,
        Action::Watch => watch::run(context).await,
        Action::Compaction => kv::compaction(context).await,
        Action::LeaseGrant => lease::grant(context).await,
        Action::LeaseRevoke => lease::revoke(context).await,
        Action::LeaseTimeToLive => lease::time_to_live(context).await,
        Action::LeaseList => lease::list(context).await,
        Action::LeaseKeepAlive => lease::keep_alive(context).await,
        Action::MemberAdd => member::add(context).await,
        Action::MemberRemove => member::remove(context).await,
        Action::MemberUpdate => member::update(context).await,
        Action::MemberList => member::list(context).await,
        Action::MemberPromote => member::promote(context).await,
        Action::EndpointHealth => endpoint::health(context).await,
        Action::EndpointStatus => endpoint::status(context).await,
        Action::EndpointHashKv => endpoint::hash(context).await,
        Action::AlarmList => maintenance::alarm_list(context).await,
        Action::AlarmDisarm => maintenance::alarm_disarm(context).await,
        Action::MoveLeader => maintenance::move_leader(context).await,
        Action::Defrag => maintenance::defrag(context).await,
        Action::SnapshotSave => snapshot::save(context).await,
        Action::DowngradeValidate => maintenance::downgrade(context, "validate").await,
        Action::DowngradeEnable => maintenance::downgrade(context, "enable").await,
        Action::DowngradeCancel => maintenance::downgrade(context, "cancel").await,
        Action::AuthEnable => auth::enable(context).await,
        Action::AuthDisable => auth::disable(context).await,
        Action::AuthStatus => auth::status(context).await,
        Action::UserAdd => user::add(context).await,
        Action::UserDelete => user::delete(context).await,
        Action::UserGet => user::get(context).await,
        Action::UserList => user::list(context).await,
        Action::UserPasswd => user::password(context).await,
        Action::UserGrantRole => user::grant(context).await,
        Action::UserRevokeRole => user::revoke(context).await,
        Action::RoleAdd => role::add(context).await,
        Action::RoleDelete => role::delete(context).await,
        Action::RoleGet => role::get(context).await,
        Action::RoleList => role::list(context).await,
        Action::RoleGrantPermission => role::grant(context).await,
        Action::RoleRevokePermission => role::revoke(context).await,
        Action::Lock => lock::run(context).await,
        Action::Elect => elect::run(context).await,
        Action::CheckPerf => check::perf(context).await,
        Action::CheckDatascale => check::datascale(context).await,
        Action::MakeMirror => mirror::run(context).await,
        Action::Completion | Action::Options | Action::Version => Ok(()),
    }
}

/// Refuses a command with a number of arguments that it does not take.
pub(crate) fn expect_arguments(context: &Context<'_>, count: usize, message: &str) -> Done {
    if context.arguments().len() == count { Ok(()) } else { Err(Failure::arguments(message)) }
}
