//! Answers in the forms that etcdctl has: simple, fields, json, protobuf, table.
//!
//! Owns: [`Printer`]. Invariants: the bytes are etcdctl's; a form that a command lacks is refused after the call, as there.
//! Called by: the commands. Source: etcdctl 3.7.3, ctlv3/command/printer*.go.

mod fields;
mod hex_members;
mod json;
mod leases;
pub(crate) mod out;
mod simple;
mod table;
pub(crate) mod terminal;

use keelson_proto::etcdserverpb as pb;
use prost::Message;

pub(crate) use json::Json;

use crate::failure::{FEATURE, Failure};

/// The forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

/// Prints answers in one form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    pub(crate) form: Form,
    pub(crate) hex: bool,
    pub(crate) value_only: bool,
}

/// The health of an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    pub(crate) endpoint: String,
    pub(crate) healthy: bool,
    pub(crate) took: String,
    pub(crate) error: String,
}

/// The answer of one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Of<T> {
    pub(crate) endpoint: String,
    pub(crate) answer: T,
}

type Done = Result<(), Failure>;

impl Printer {
    /// # Errors
    /// If there is no such form.
    pub(crate) fn new(form: &str, hex: bool) -> Result<Self, Failure> {
        let form = match form {
            "simple" => Form::Simple,
            "fields" => Form::Fields,
            "json" => Form::Json,
            "protobuf" => Form::Protobuf,
            "table" => Form::Table,
            _ => {
                return Err(Failure::new(FEATURE, "unsupported output format")
                    .help("--write-out is one of fields, json, protobuf, simple, table"));
            }
        };
        Ok(Self { form, hex, value_only: false })
    }

    /// One that can be shown in all forms but the table.
    fn common<M: Message>(
        &self,
        name: &str,
        message: &M,
        simple: impl FnOnce() -> Vec<u8>,
        fields: impl FnOnce() -> String,
    ) -> Done {
        match self.form {
            Form::Simple => out::bytes(&simple()),
            Form::Fields => out::text(&fields()),
            Form::Json => out::line(&Json::message(name, message).render()),
            Form::Protobuf => out::bytes(&message.encode_to_vec()),
            Form::Table => Err(self.unsupported()),
        }
    }

    /// One that has no form of fields.
    fn without_fields<M: Message>(&self, name: &str, message: &M, simple: impl FnOnce() -> Vec<u8>) -> Done {
        match self.form {
            Form::Fields => Err(self.unsupported()),
            _ => self.common(name, message, simple, String::new),
        }
    }

    fn unsupported(&self) -> Failure {
        let name = match self.form {
            Form::Simple => "simple",
            Form::Fields => "fields",
            Form::Json => "json",
            Form::Protobuf => "protobuf",
            Form::Table => "table",
        };
        Failure::new(FEATURE, format!("{name} not supported as output format"))
            .help("this command has other forms: -w simple or -w json")
    }

    pub(crate) fn get(&self, answer: &pb::RangeResponse) -> Done {
        self.common(
            "etcdserverpb.RangeResponse",
            answer,
            || simple::get(self, answer),
            || fields::get(self, answer),
        )
    }

    pub(crate) fn put(&self, answer: &pb::PutResponse) -> Done {
        self.common(
            "etcdserverpb.PutResponse",
            answer,
            || simple::put(self, answer),
            || fields::put(self, answer),
        )
    }

    pub(crate) fn del(&self, answer: &pb::DeleteRangeResponse) -> Done {
        let name = "etcdserverpb.DeleteRangeResponse";
        self.common(name, answer, || simple::del(self, answer), || fields::del(self, answer))
    }

    pub(crate) fn txn(&self, answer: &pb::TxnResponse) -> Done {
        match self.form {
            Form::Json => out::line(&json::txn(answer).render()),
            _ => self.common(
                "etcdserverpb.TxnResponse",
                answer,
                || simple::txn(self, answer),
                || fields::txn(self, answer),
            ),
        }
    }

    pub(crate) fn watch(&self, answer: &pb::WatchResponse) -> Done {
        match self.form {
            Form::Json => out::line(&json::watch(answer).render()),
            Form::Protobuf => {
                // etcdctl rebuilds the message from what its client keeps.
                let kept = pb::WatchResponse {
                    watch_id: 0,
                    fragment: false,
                    cancel_reason: String::new(),
                    ..answer.clone()
                };
                out::bytes(&kept.encode_to_vec())
            }
            _ => self.common(
                "etcdserverpb.WatchResponse",
                answer,
                || simple::watch(self, answer),
                || fields::watch(self, answer),
            ),
        }
    }

    pub(crate) fn alarm(&self, answer: &pb::AlarmResponse) -> Done {
        let simple = || simple::alarm(answer).into_bytes();
        self.common("etcdserverpb.AlarmResponse", answer, simple, || fields::alarm(self, answer))
    }

    pub(crate) fn member_add(&self, answer: &pb::MemberAddResponse) -> Done {
        let members = hex_members::Parts {
            header: &answer.header,
            member: Some(&answer.member),
            members: &answer.members,
        };
        self.membership("etcdserverpb.MemberAddResponse", answer, &members, || {
            let member = answer.member.clone().unwrap_or_default();
            let learner = if member.is_learner { " as learner " } else { " " };
            format!("Member {:16x} added{learner}to cluster {:16x}\n", member.id, cluster(&answer.header))
        })
    }

    pub(crate) fn member_remove(&self, id: u64, answer: &pb::MemberRemoveResponse) -> Done {
        let members = hex_members::Parts { header: &answer.header, member: None, members: &answer.members };
        self.membership("etcdserverpb.MemberRemoveResponse", answer, &members, || {
            format!("Member {id:16x} removed from cluster {:16x}\n", cluster(&answer.header))
        })
    }

    pub(crate) fn member_update(&self, id: u64, answer: &pb::MemberUpdateResponse) -> Done {
        let members = hex_members::Parts { header: &answer.header, member: None, members: &answer.members };
        self.membership("etcdserverpb.MemberUpdateResponse", answer, &members, || {
            format!("Member {id:16x} updated in cluster {:16x}\n", cluster(&answer.header))
        })
    }

    pub(crate) fn member_promote(&self, id: u64, answer: &pb::MemberPromoteResponse) -> Done {
        let members = hex_members::Parts { header: &answer.header, member: None, members: &answer.members };
        self.membership("etcdserverpb.MemberPromoteResponse", answer, &members, || {
            format!("Member {id:16x} promoted in cluster {:16x}\n", cluster(&answer.header))
        })
    }

    fn membership<M: Message>(
        &self,
        name: &str,
        answer: &M,
        parts: &hex_members::Parts<'_>,
        simple: impl FnOnce() -> String,
    ) -> Done {
        match self.form {
            Form::Json if self.hex => out::line(&parts.json().render()),
            _ => self.without_fields(name, answer, || simple().into_bytes()),
        }
    }

    pub(crate) fn member_list(&self, answer: &pb::MemberListResponse) -> Done {
        match self.form {
            Form::Table => out::text(&table::members(answer)),
            Form::Json if self.hex => {
                let parts =
                    hex_members::Parts { header: &answer.header, member: None, members: &answer.members };
                out::line(&parts.json().render())
            }
            _ => self.common(
                "etcdserverpb.MemberListResponse",
                answer,
                || table::joined(&table::member_rows(answer)).into_bytes(),
                || fields::members(self, answer),
            ),
        }
    }

    pub(crate) fn endpoint_health(&self, list: &[Health]) -> Done {
        match self.form {
            Form::Simple => simple::health(list),
            Form::Fields => out::text(&fields::health(list)),
            Form::Json => out::line(&json::health(list).render()),
            Form::Table => out::text(&table::health(list)),
            Form::Protobuf => Err(self.unsupported()),
        }
    }

    pub(crate) fn endpoint_status(&self, list: &[Of<pb::StatusResponse>]) -> Done {
        match self.form {
            Form::Simple => out::text(&table::joined(&table::status_rows(list))),
            Form::Fields => out::text(&fields::status(self, list)),
            Form::Json => out::line(&json::endpoints("Status", "etcdserverpb.StatusResponse", list).render()),
            Form::Table => out::text(&table::status(list)),
            Form::Protobuf => Err(self.unsupported()),
        }
    }

    pub(crate) fn endpoint_hash(&self, list: &[Of<pb::HashKvResponse>]) -> Done {
        match self.form {
            Form::Simple => out::text(&table::joined(&table::hash_rows(list))),
            Form::Fields => out::text(&fields::hash(self, list)),
            Form::Json => out::line(&json::endpoints("HashKV", "etcdserverpb.HashKVResponse", list).render()),
            Form::Table => out::text(&table::hash(list)),
            Form::Protobuf => Err(self.unsupported()),
        }
    }

    pub(crate) fn move_leader(&self, from: u64, to: u64, answer: &pb::MoveLeaderResponse) -> Done {
        self.without_fields("etcdserverpb.MoveLeaderResponse", answer, || {
            format!("Leadership transferred from {from:x} to {to:x}\n").into_bytes()
        })
    }

    pub(crate) fn downgrade(&self, what: &str, answer: &pb::DowngradeResponse) -> Done {
        self.without_fields("etcdserverpb.DowngradeResponse", answer, || {
            format!("Downgrade {what} success, cluster version {}\n", answer.version).into_bytes()
        })
    }

    /// An answer to a change of users or roles: a line, or its header.
    pub(crate) fn change<M: Message>(
        &self,
        name: &str,
        answer: &M,
        header: Option<&pb::ResponseHeader>,
        line: &str,
    ) -> Done {
        self.common(name, answer, || format!("{line}\n").into_bytes(), || fields::header(self, header))
    }

    pub(crate) fn role_get(&self, role: &str, answer: &pb::AuthRoleGetResponse) -> Done {
        let name = "etcdserverpb.AuthRoleGetResponse";
        self.common(name, answer, || simple::role(role, answer), || fields::role(self, answer))
    }

    pub(crate) fn role_list(&self, answer: &pb::AuthRoleListResponse) -> Done {
        let name = "etcdserverpb.AuthRoleListResponse";
        self.common(name, answer, || simple::lines(&answer.roles), || fields::roles(self, answer))
    }

    pub(crate) fn user_get(&self, user: &str, answer: &pb::AuthUserGetResponse) -> Done {
        self.without_fields("etcdserverpb.AuthUserGetResponse", answer, || {
            let roles: String = answer.roles.iter().map(|role| format!(" {role}")).collect();
            format!("User: {user}\nRoles:{roles}\n").into_bytes()
        })
    }

    pub(crate) fn user_list(&self, answer: &pb::AuthUserListResponse) -> Done {
        self.without_fields("etcdserverpb.AuthUserListResponse", answer, || simple::lines(&answer.users))
    }

    pub(crate) fn auth_status(&self, answer: &pb::AuthStatusResponse) -> Done {
        self.without_fields("etcdserverpb.AuthStatusResponse", answer, || {
            format!("Authentication Status: {}\nAuthRevision: {}\n", answer.enabled, answer.auth_revision)
                .into_bytes()
        })
    }
}

fn cluster(header: &Option<pb::ResponseHeader>) -> u64 {
    header.as_ref().map_or(0, |header| header.cluster_id)
}
