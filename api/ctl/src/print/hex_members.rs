//! Answers about members in JSON with `--hex`: ids are texts in hexadecimal digits.

use keelson_proto::etcdserverpb as pb;

use super::Json;

/// What such an answer consists of.
pub(super) struct Parts<'a> {
    pub(super) header: &'a Option<pb::ResponseHeader>,
    pub(super) member: Option<&'a Option<pb::Member>>,
    pub(super) members: &'a [pb::Member],
}

impl Parts<'_> {
    pub(super) fn json(&self) -> Json {
        let mut object = vec![("header".to_owned(), self.header.as_ref().map_or(Json::Null, header))];
        if let Some(one) = self.member {
            object.push(("member".to_owned(), one.as_ref().map_or(Json::Null, member)));
        }
        object.push(("members".to_owned(), Json::List(self.members.iter().map(member).collect())));
        Json::Object(object)
    }
}

fn header(header: &pb::ResponseHeader) -> Json {
    let mut object = vec![
        ("cluster_id".to_owned(), Json::Text(format!("{:x}", header.cluster_id))),
        ("member_id".to_owned(), Json::Text(format!("{:x}", header.member_id))),
    ];
    if header.revision != 0 {
        object.push(("revision".to_owned(), Json::from(header.revision)));
    }
    if header.raft_term != 0 {
        object.push(("raft_term".to_owned(), Json::Number(header.raft_term.to_string())));
    }
    Json::Object(object)
}

fn member(member: &pb::Member) -> Json {
    // The generic form has the order and leaves out what is empty; only the id differs, and is never left out.
    let mut object = match Json::message("etcdserverpb.Member", member) {
        Json::Object(object) => object,
        _ => Vec::new(),
    };
    object.retain(|(name, _)| name != "ID");
    object.insert(0, ("ID".to_owned(), Json::Text(format!("{:x}", member.id))));
    Json::Object(object)
}
