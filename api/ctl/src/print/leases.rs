//! Answers about leases, which etcd's client keeps in types of its own.
//!
//! Source: etcd client/v3/lease.go for their fields.

use keelson_proto::etcdserverpb as pb;
use prost::Message;

use super::{Done, Form, Json, Printer, fields, out, simple};
use crate::failure::{FEATURE, Failure};

impl Printer {
    /// A lease's answer: in its own JSON, and nothing but its header in protobuf, as etcdctl does.
    fn lease(
        &self,
        header: Option<&pb::ResponseHeader>,
        rest: Vec<(String, Json)>,
        simple: impl FnOnce() -> String,
        fields: impl FnOnce() -> String,
    ) -> Done {
        match self.form {
            Form::Simple => out::text(&simple()),
            Form::Fields => out::text(&(fields::header(self, header) + &fields())),
            Form::Json => {
                let mut members =
                    match header.map(|header| Json::message("etcdserverpb.ResponseHeader", header)) {
                        Some(Json::Object(members)) => members,
                        _ => Vec::new(),
                    };
                members.extend(rest);
                out::line(&Json::Object(members).render())
            }
            Form::Protobuf => out::bytes(&header.map(Message::encode_to_vec).unwrap_or_default()),
            Form::Table => Err(self.unsupported()),
        }
    }

    fn id(&self, id: i64) -> String {
        if self.hex { format!("{id:016x}") } else { id.to_string() }
    }

    pub(crate) fn lease_grant(&self, answer: &pb::LeaseGrantResponse) -> Done {
        let rest = vec![
            ("ID".to_owned(), Json::from(answer.id)),
            ("TTL".to_owned(), Json::from(answer.ttl)),
            ("Error".to_owned(), Json::Text(answer.error.clone())),
        ];
        self.lease(
            answer.header.as_ref(),
            rest,
            || format!("lease {:016x} granted with TTL({}s)\n", answer.id, answer.ttl),
            || format!("\"ID\" : {}\n\"TTL\" : {}\n", self.id(answer.id), answer.ttl),
        )
    }

    pub(crate) fn lease_revoke(&self, id: i64, answer: &pb::LeaseRevokeResponse) -> Done {
        if self.form == Form::Protobuf {
            return Err(Failure::new(FEATURE, "marshal unsupported for type *clientv3.LeaseRevokeResponse")
                .help("the lease is revoked; -w json shows the answer"));
        }
        let simple = || format!("lease {id:016x} revoked\n").into_bytes();
        let header = || fields::header(self, answer.header.as_ref());
        self.common("etcdserverpb.LeaseRevokeResponse", answer, simple, header)
    }

    pub(crate) fn lease_keep_alive(&self, answer: &pb::LeaseKeepAliveResponse) -> Done {
        let rest = vec![("ID".to_owned(), Json::from(answer.id)), ("TTL".to_owned(), Json::from(answer.ttl))];
        self.lease(
            answer.header.as_ref(),
            rest,
            || format!("lease {:016x} keepalived with TTL({})\n", answer.id, answer.ttl),
            || format!("\"ID\" : {}\n\"TTL\" : {}\n", self.id(answer.id), answer.ttl),
        )
    }

    pub(crate) fn lease_time_to_live(&self, answer: &pb::LeaseTimeToLiveResponse, keys: bool) -> Done {
        let listed = match answer.keys.is_empty() {
            true => Json::Null,
            false => Json::List(answer.keys.iter().map(|key| Json::bytes(key)).collect()),
        };
        let rest = vec![
            ("id".to_owned(), Json::from(answer.id)),
            ("ttl".to_owned(), Json::from(answer.ttl)),
            ("granted-ttl".to_owned(), Json::from(answer.granted_ttl)),
            ("keys".to_owned(), listed),
        ];
        if self.form == Form::Simple {
            return out::bytes(&simple::time_to_live(answer, keys));
        }
        self.lease(answer.header.as_ref(), rest, String::new, || {
            let mut text = format!(
                "\"ID\" : {}\n\"TTL\" : {}\n\"GrantedTTL\" : {}\n",
                self.id(answer.id),
                answer.ttl,
                answer.granted_ttl
            );
            answer.keys.iter().for_each(|key| text += &format!("\"Key\" : {}\n", crate::go::quote(key)));
            text
        })
    }

    pub(crate) fn leases(&self, answer: &pb::LeaseLeasesResponse) -> Done {
        let one = |lease: &pb::LeaseStatus| Json::Object(vec![("id".to_owned(), Json::from(lease.id))]);
        let rest = vec![("leases".to_owned(), Json::List(answer.leases.iter().map(one).collect()))];
        self.lease(
            answer.header.as_ref(),
            rest,
            || {
                let ids = answer.leases.iter().map(|lease| format!("{:016x}\n", lease.id));
                format!("found {} leases\n{}", answer.leases.len(), ids.collect::<String>())
            },
            || answer.leases.iter().map(|lease| format!("\"ID\" : {}\n", self.id(lease.id))).collect(),
        )
    }
}
