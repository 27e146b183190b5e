//! One side of a differential run: sends an operation to one server and brings the answer into comparable form.
//!
//! Owns: the server-chosen ids, the watch streams and the login of this side. Invariant: a session sends exactly what the
//! operation says, so both sides send the same request up to ids that the server itself chose.
//! Called by: the lockstep run.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use keelson_proto::etcdserverpb as pb;
use tonic::{Request as Call, Status};

use super::answer::{Answer, Delivery, Mask};
use super::op::{Auth, LeaseRef, Op, Request, Resolve, View, WatchCreate, Whose};
use super::ties::{normalize_range, normalize_txn};
use super::watching::{Stream, StreamError};
use crate::client::Client;

/// No answer for this long is a difference of its own. Above every time limit a server has by itself.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Stand-in for a lease that was never granted in this (shortened) run.
const NEVER_GRANTED: i64 = 999_000_000;

/// One server and what this side remembers.
pub struct Session {
    client: Client,
    watching: Client,
    mask: Mask,
    chosen: HashMap<usize, i64>,
    streams: BTreeMap<usize, Stream>,
    token: Option<String>,
    own: u64,
    view: View,
}

impl Resolve for Session {
    fn lease(&self, lease: LeaseRef) -> i64 {
        match lease {
            LeaseRef::None => 0,
            LeaseRef::Numbered(id) => id,
            LeaseRef::Chosen(slot) => self.chosen.get(&slot).copied().unwrap_or(NEVER_GRANTED + slot as i64),
        }
    }

    fn view(&self) -> View {
        self.view
    }
}

impl Session {
    /// A session with the member at `url`.
    ///
    /// # Errors
    /// If the member does not tell its id.
    pub async fn open(url: &str) -> Result<Self, Status> {
        let client = Client::lazy(url);
        let status = client.status().await?;
        Ok(Self {
            client,
            watching: Client::for_streams(url),
            mask: Mask::default(),
            chosen: HashMap::new(),
            streams: BTreeMap::new(),
            token: None,
            own: status.header.map_or(0, |header| header.member_id),
            view: View::FRESH,
        })
    }

    /// Runs one operation at the given state of the run.
    pub async fn run(&mut self, op: &Op, view: View) -> Answer {
        self.view = view;
        match tokio::time::timeout(ANSWER_WAIT, self.dispatch(op)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(status)) => status.into(),
            Err(_) => Answer::Broken(format!("no answer within {ANSWER_WAIT:?}")),
        }
    }

    fn call<T>(&self, message: T) -> Call<T> {
        let mut call = Call::new(message);
        if let Some(token) = &self.token
            && let Ok(token) = token.parse()
        {
            call.metadata_mut().insert("token", token);
        }
        call
    }

    async fn dispatch(&mut self, op: &Op) -> Result<Answer, Status> {
        match op {
            Op::Kv(request) => self.kv(request).await,
            Op::RangeStream(range) => {
                let chunks =
                    self.client.kv().range_stream(self.call(range.build(self.view))).await?.into_inner();
                self.merge(chunks).await
            }
            Op::Compact { revision, physical } => {
                let request = pb::CompactionRequest {
                    revision: revision.resolve_compaction(self.view),
                    physical: *physical,
                };
                let mut answer = self.client.kv().compact(self.call(request)).await?.into_inner();
                self.mask.header(&mut answer.header);
                Ok(Answer::Compact(answer))
            }
            Op::Grant { .. } | Op::Revoke(_) | Op::KeepAlive(_) | Op::TimeToLive { .. } | Op::Leases => {
                self.lease_op(op).await
            }
            Op::Watch(create) => self.watch(create).await,
            Op::WatchCancel { stream, watch_id } => match self.streams.get_mut(stream) {
                Some(stream) => Ok(broken(stream.cancel(*watch_id).await)),
                None => Ok(Answer::Nothing),
            },
            Op::Drain => Ok(self.drain().await),
            Op::Auth(auth) => self.auth(auth).await,
            Op::MemberList { .. } | Op::Status | Op::Alarm { .. } | Op::HashKv(_) | Op::Defragment => {
                self.maintain(op).await
            }
        }
    }

    async fn kv(&mut self, request: &Request) -> Result<Answer, Status> {
        match request {
            Request::Put(put) => {
                let mut answer = self.client.kv().put(self.call(put.build(self))).await?.into_inner();
                self.mask.put(&mut answer);
                Ok(Answer::Put(answer))
            }
            Request::Delete(delete) => {
                let mut answer = self.client.kv().delete_range(self.call(delete.build())).await?.into_inner();
                self.mask.delete(&mut answer);
                Ok(Answer::Delete(answer))
            }
            Request::Range(range) => {
                let mut answer =
                    self.client.kv().range(self.call(range.build(self.view))).await?.into_inner();
                self.mask.range(&mut answer);
                normalize_range(range, &mut answer);
                Ok(Answer::Range(answer))
            }
            Request::Txn(txn) => {
                let mut answer = self.client.kv().txn(self.call(txn.build(self))).await?.into_inner();
                self.mask.txn(&mut answer);
                normalize_txn(txn, &mut answer);
                Ok(Answer::Txn(answer))
            }
            Request::Unset => Ok(Answer::Nothing),
        }
    }

    /// Concatenates a streamed range; header, count and `more` belong on the last message only.
    async fn merge(&self, mut chunks: tonic::Streaming<pb::RangeStreamResponse>) -> Result<Answer, Status> {
        let mut merged = pb::RangeResponse::default();
        let mut ended = false;
        while let Some(chunk) = chunks.message().await? {
            let Some(response) = chunk.range_response else {
                return Ok(Answer::Broken("a chunk without a response".to_owned()));
            };
            if ended {
                return Ok(Answer::Broken("a chunk after the one with the header".to_owned()));
            }
            ended = response.header.is_some();
            if !ended && (response.more || response.count != 0) {
                return Ok(Answer::Broken("count or more before the last chunk".to_owned()));
            }
            merged.kvs.extend(response.kvs);
            (merged.header, merged.more, merged.count) = (response.header, response.more, response.count);
        }
        self.mask.range(&mut merged);
        Ok(Answer::Range(merged))
    }

    async fn lease_op(&mut self, op: &Op) -> Result<Answer, Status> {
        let mut lease = self.client.lease();
        match op {
            Op::Grant { id, slot, ttl } => {
                let request = pb::LeaseGrantRequest { ttl: *ttl, id: *id };
                let mut answer = lease.lease_grant(self.call(request)).await?.into_inner();
                if *id == 0 {
                    let stand_in = -1_000_000 - self.mask.leases.len() as i64;
                    self.chosen.insert(*slot, answer.id);
                    self.mask.leases.insert(answer.id, stand_in);
                    if answer.id <= 0 {
                        return Ok(Answer::Broken(format!("the server chose the lease id {}", answer.id)));
                    }
                }
                self.mask.header(&mut answer.header);
                answer.id = self.mask.lease(answer.id);
                Ok(Answer::Grant(answer))
            }
            Op::Revoke(which) => {
                let request = pb::LeaseRevokeRequest { id: self.lease(*which) };
                let mut answer = lease.lease_revoke(self.call(request)).await?.into_inner();
                self.mask.header(&mut answer.header);
                Ok(Answer::Revoke(answer))
            }
            Op::KeepAlive(which) => {
                let request = pb::LeaseKeepAliveRequest { id: self.lease(*which) };
                let mut stream =
                    lease.lease_keep_alive(self.call(tokio_stream::once(request))).await?.into_inner();
                let Some(mut answer) = stream.message().await? else {
                    return Ok(Answer::Broken("the keep-alive stream ended without an answer".to_owned()));
                };
                self.mask.header(&mut answer.header);
                answer.id = self.mask.lease(answer.id);
                Ok(Answer::KeepAlive(answer))
            }
            Op::TimeToLive { lease: which, keys } => {
                let request = pb::LeaseTimeToLiveRequest { id: self.lease(*which), keys: *keys };
                let mut answer = lease.lease_time_to_live(self.call(request)).await?.into_inner();
                self.mask.time_to_live(&mut answer);
                Ok(Answer::TimeToLive(answer))
            }
            _ => {
                let mut answer = lease.lease_leases(self.call(pb::LeaseLeasesRequest {})).await?.into_inner();
                self.mask.leases(&mut answer);
                Ok(Answer::Leases(answer))
            }
        }
    }

    async fn watch(&mut self, create: &WatchCreate) -> Result<Answer, Status> {
        let request = create.build(self.view);
        let behind = request.start_revision > 0 && request.start_revision < self.view.compacted;
        let created = match self.streams.get_mut(&create.stream) {
            Some(stream) => stream.create(request).await,
            None => match Stream::open(&self.watching, self.call(request)).await {
                Ok((stream, created)) => {
                    self.streams.insert(create.stream, stream);
                    Ok(created)
                }
                Err(error) => Err(error),
            },
        };
        let mut created = match created {
            Ok(created) => created,
            Err(StreamError::Ended(status)) => {
                self.streams.remove(&create.stream);
                return Err(status);
            }
            Err(error) => return Ok(Answer::Broken(error.to_string())),
        };
        if behind
            && !created.canceled
            && let Some(stream) = self.streams.get_mut(&create.stream)
            && let Err(error) = stream.await_compacted(created.watch_id).await
        {
            return Ok(Answer::Broken(error.to_string()));
        }
        self.mask.header(&mut created.header);
        Ok(Answer::Watch(created))
    }

    async fn drain(&mut self) -> Answer {
        let mut drained = BTreeMap::new();
        for (number, stream) in &mut self.streams {
            match stream.drain(self.view.current).await {
                Ok(None) => {}
                Ok(Some(collected)) => {
                    for (id, mut deliveries) in collected {
                        deliveries.iter_mut().for_each(|delivery| match delivery {
                            Delivery::Event(event) => self.mask.event(event),
                            Delivery::Canceled(response) => {
                                self.mask.header(&mut response.header);
                                response.events.clear();
                            }
                        });
                        if !deliveries.is_empty() {
                            drained.insert((*number, id), deliveries);
                        }
                    }
                }
                Err(error) => return Answer::Broken(format!("stream {number}: {error}")),
            }
        }
        Answer::Drained(drained)
    }

    async fn maintain(&mut self, op: &Op) -> Result<Answer, Status> {
        let mut maintenance = self.client.maintenance();
        match op {
            Op::MemberList { linearizable } => {
                let request = self.call(pb::MemberListRequest { linearizable: *linearizable });
                let mut answer = self.client.cluster().member_list(request).await?.into_inner();
                self.mask.members(&mut answer);
                Ok(Answer::Members(answer))
            }
            Op::Status => {
                let mut answer = maintenance.status(self.call(pb::StatusRequest {})).await?.into_inner();
                self.mask.status(&mut answer);
                Ok(Answer::Status(answer))
            }
            Op::Alarm { action, member, alarm } => {
                let member_id = match member {
                    Whose::Own => self.own,
                    Whose::Exact(id) => *id,
                };
                let request = pb::AlarmRequest { action: *action, member_id, alarm: *alarm };
                let mut answer = maintenance.alarm(self.call(request)).await?.into_inner();
                self.mask.alarm(&mut answer, self.own);
                Ok(Answer::Alarm(answer))
            }
            Op::HashKv(revision) => {
                let request = pb::HashKvRequest { revision: revision.resolve(self.view) };
                let mut answer = maintenance.hash_kv(self.call(request)).await?.into_inner();
                self.mask.header(&mut answer.header);
                Ok(Answer::HashKv(answer))
            }
            _ => {
                let mut answer =
                    maintenance.defragment(self.call(pb::DefragmentRequest {})).await?.into_inner();
                self.mask.header(&mut answer.header);
                Ok(Answer::Defragment(answer))
            }
        }
    }

    async fn auth(&mut self, auth: &Auth) -> Result<Answer, Status> {
        let mut client = self.client.auth();
        // Masks the header of a response and keeps the rest as text.
        macro_rules! answer {
            ($call:expr) => {{
                let mut answer = $call.await?.into_inner();
                self.mask.header(&mut answer.header);
                Ok(Answer::Auth(format!("{answer:?}")))
            }};
        }
        match auth {
            Auth::Status => answer!(client.auth_status(self.call(pb::AuthStatusRequest {}))),
            Auth::Enable => answer!(client.auth_enable(self.call(pb::AuthEnableRequest {}))),
            Auth::Disable => answer!(client.auth_disable(self.call(pb::AuthDisableRequest {}))),
            Auth::Login(name, password) => {
                let request = pb::AuthenticateRequest { name: (*name).into(), password: (*password).into() };
                let mut answer = client.authenticate(Call::new(request)).await?.into_inner();
                self.token = Some(std::mem::take(&mut answer.token));
                self.mask.header(&mut answer.header);
                Ok(Answer::Auth(format!("{answer:?}")))
            }
            Auth::Logout => {
                self.token = None;
                Ok(Answer::Nothing)
            }
            Auth::BadToken => {
                self.token = Some("nobodyissuedthis.1".to_owned());
                Ok(Answer::Nothing)
            }
            Auth::UserAdd(name, password, no_password) => {
                answer!(client.user_add(self.call(pb::AuthUserAddRequest {
                    name: (*name).into(),
                    password: (*password).into(),
                    options: Some(keelson_proto::authpb::UserAddOptions { no_password: *no_password }),
                    ..Default::default()
                })))
            }
            Auth::UserGet(name) => {
                answer!(client.user_get(self.call(pb::AuthUserGetRequest { name: (*name).into() })))
            }
            Auth::UserList => answer!(client.user_list(self.call(pb::AuthUserListRequest {}))),
            Auth::UserDelete(name) => {
                answer!(client.user_delete(self.call(pb::AuthUserDeleteRequest { name: (*name).into() })))
            }
            Auth::UserChangePassword(name, password) => {
                answer!(client.user_change_password(self.call(pb::AuthUserChangePasswordRequest {
                    name: (*name).into(),
                    password: (*password).into(),
                    ..Default::default()
                })))
            }
            Auth::UserGrantRole(user, role) => answer!(client.user_grant_role(
                self.call(pb::AuthUserGrantRoleRequest { user: (*user).into(), role: (*role).into() })
            )),
            Auth::UserRevokeRole(name, role) => answer!(client.user_revoke_role(
                self.call(pb::AuthUserRevokeRoleRequest { name: (*name).into(), role: (*role).into() })
            )),
            Auth::RoleAdd(name) => {
                answer!(client.role_add(self.call(pb::AuthRoleAddRequest { name: (*name).into() })))
            }
            Auth::RoleGet(role) => {
                answer!(client.role_get(self.call(pb::AuthRoleGetRequest { role: (*role).into() })))
            }
            Auth::RoleList => answer!(client.role_list(self.call(pb::AuthRoleListRequest {}))),
            Auth::RoleDelete(role) => {
                answer!(client.role_delete(self.call(pb::AuthRoleDeleteRequest { role: (*role).into() })))
            }
            Auth::RoleGrant(name, kind, key, range_end) => {
                let perm = keelson_proto::authpb::Permission {
                    perm_type: *kind,
                    key: key.clone(),
                    range_end: range_end.clone(),
                };
                answer!(client.role_grant_permission(
                    self.call(pb::AuthRoleGrantPermissionRequest { name: (*name).into(), perm: Some(perm) })
                ))
            }
            Auth::RoleRevoke(role, key, range_end) => {
                answer!(client.role_revoke_permission(self.call(pb::AuthRoleRevokePermissionRequest {
                    role: (*role).into(),
                    key: key.clone(),
                    range_end: range_end.clone(),
                })))
            }
        }
    }
}

fn broken(result: Result<(), StreamError>) -> Answer {
    match result {
        Ok(()) => Answer::Nothing,
        Err(error) => Answer::Broken(error.to_string()),
    }
}
