//! A connection to the first endpoint that answers, logged in, with the stubs of all services.
//!
//! Owns: connecting, login, limits of size and time, which calls are tried again. Invariants: a call that may have taken
//! effect is never sent twice; every failure has been explained. Called by: the commands.
//! Source: etcd client/v3 client.go and retry.go for what is repeated.

use std::time::Duration;

use futures::future::select_ok;
use hyper_util::rt::TokioIo;
use keelson_proto::etcdserverpb as pb;
use prost::Message;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Uri};
use tonic::{Code, Request, Response, Status};

use super::connector::{Carrier, ConnectError, connect};
use super::endpoint::Place;
use super::settings::{Auth, Settings};
use super::tls;
use crate::clock::{Clock, pause};
use crate::diagnose;
use crate::failure::{ARGUMENTS, CONNECTION, Failure};

/// Servers end connections that are asked for life more often.
const KEEPALIVE_MIN: Duration = Duration::from_secs(10);

/// Servers are told which API this client knows.
const CLIENT_API_VERSION: &str = "3.7";

/// Whether a call can be sent again after a failure of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It only reads.
    Yes,
    /// It may have taken effect.
    No,
}

/// A logged-in connection.
#[derive(Clone)]
pub struct Client {
    pub(crate) settings: Settings,
    channel: Channel,
    place: Place,
    token: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Connects to the first endpoint that answers and logs in.
    ///
    /// # Errors
    /// Explained, for each endpoint.
    pub async fn open(settings: &Settings) -> Result<Self, Failure> {
        if settings.endpoints.iter().all(String::is_empty) {
            return Err(Failure::new(CONNECTION, "etcdclient: no available endpoints")
                .help("give --endpoints, such as --endpoints=127.0.0.1:2379"));
        }
        let places: Vec<Place> =
            settings.endpoints.iter().map(|endpoint| Place::parse(endpoint, settings)).collect();
        let attempts = places.iter().map(|place| Box::pin(connect_one(settings, place)));
        let (channel, place) = match select_ok(attempts).await {
            Ok((found, _)) => found,
            Err(OpenError::Files(failure)) => return Err(failure),
            Err(OpenError::Connect(_)) => return Err(diagnose::unreachable(settings, &places).await),
        };
        if settings.debug {
            eprintln!("debug: connected to {}", place.url());
        }
        let mut client = Client { settings: settings.clone(), channel, place, token: None };
        client.log_in().await?;
        Ok(client)
    }

    async fn log_in(&mut self) -> Result<(), Failure> {
        let token = match self.settings.auth.clone() {
            None => return Ok(()),
            Some(Auth::Token(token)) => token,
            Some(Auth::User { name, password }) => {
                let request = pb::AuthenticateRequest { name, password };
                let wait = self.settings.dial_timeout;
                let answer = self
                    .within(wait, Repeat::Yes, request, |channel, request| async move {
                        pb::auth_client::AuthClient::new(channel).authenticate(request).await
                    })
                    .await;
                match answer {
                    Ok(answer) => answer.token,
                    // Users are not asked for: go on without one, as etcd's client does.
                    Err(failure) if failure.message() == diagnose::AUTH_NOT_ENABLED => return Ok(()),
                    Err(failure) => return Err(failure.with_code(CONNECTION)),
                }
            }
        };
        self.token = Some(token.parse().map_err(|_| {
            Failure::new(ARGUMENTS, "the token has characters that no header may have")
                .help("copy the token again, on one line")
        })?);
        Ok(())
    }

    /// The channel, for streams.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request with what every one carries.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("client-api-version", MetadataValue::from_static(CLIENT_API_VERSION));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        request
    }

    /// A request that is refused by a member without a leader.
    pub(crate) fn led_request<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        request
    }

    /// Calls within the limit of a short command.
    pub(crate) async fn call<Q, A, F>(
        &self,
        repeat: Repeat,
        message: Q,
        method: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A, Failure>
    where
        Q: Message + Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.within(self.settings.command_timeout, repeat, message, method).await
    }

    /// Calls without a limit of this client's: the server has one.
    pub(crate) async fn call_unlimited<Q, A, F>(
        &self,
        repeat: Repeat,
        message: Q,
        method: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A, Failure>
    where
        Q: Message + Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        const ALMOST_FOR_EVER: Duration = Duration::from_secs(3600);
        self.within(ALMOST_FOR_EVER, repeat, message, method).await
    }

    async fn within<Q, A, F>(
        &self,
        wait: Duration,
        repeat: Repeat,
        message: Q,
        method: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A, Failure>
    where
        Q: Message + Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        const BETWEEN_TRIES: Duration = Duration::from_millis(50);
        let size = message.encoded_len();
        if size > self.settings.send_bytes_max {
            return Err(diagnose::own_limit(size, self.settings.send_bytes_max));
        }
        let clock = Clock::start();
        loop {
            let left = wait.saturating_sub(clock.elapsed());
            let answer =
                tokio::time::timeout(left, method(self.channel(), self.request(message.clone()))).await;
            let status = match answer {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => return Err(diagnose::timed_out(self, wait).await),
            };
            let again = repeat == Repeat::Yes
                && status.code() == Code::Unavailable
                && !diagnose::is_of_server(&status);
            if !again || clock.elapsed() + BETWEEN_TRIES >= wait.min(self.settings.dial_timeout) {
                return Err(self.explain(&status).await);
            }
            pause(BETWEEN_TRIES).await;
        }
    }

    /// Explains an answer that is an error.
    pub(crate) async fn explain(&self, status: &Status) -> Failure {
        diagnose::status(self, status).await
    }

    /// Where this client is connected.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The key-value service.
    pub(crate) fn kv(channel: Channel, settings: &Settings) -> pb::kv_client::KvClient<Channel> {
        pb::kv_client::KvClient::new(channel)
            .max_decoding_message_size(settings.receive_bytes_max)
            .max_encoding_message_size(usize::MAX)
    }

    /// Status of the member, for those who look after it.
    ///
    /// # Errors
    /// Explained.
    pub async fn status(&self) -> Result<pb::StatusResponse, Failure> {
        self.call(Repeat::Yes, pb::StatusRequest {}, |channel, request| async move {
            pb::maintenance_client::MaintenanceClient::new(channel).status(request).await
        })
        .await
    }

    /// The members of the cluster.
    ///
    /// # Errors
    /// Explained.
    pub async fn members(&self, linearizable: bool) -> Result<pb::MemberListResponse, Failure> {
        self.call(Repeat::Yes, pb::MemberListRequest { linearizable }, |channel, request| async move {
            pb::cluster_client::ClusterClient::new(channel).member_list(request).await
        })
        .await
    }

    /// The alarms of the cluster.
    ///
    /// # Errors
    /// Explained.
    pub async fn alarms(&self) -> Result<pb::AlarmResponse, Failure> {
        let request =
            pb::AlarmRequest { action: pb::alarm_request::AlarmAction::Get.into(), ..Default::default() };
        self.call(Repeat::Yes, request, |channel, request| async move {
            pb::maintenance_client::MaintenanceClient::new(channel).alarm(request).await
        })
        .await
    }
}

/// Why an endpoint gave no connection.
enum OpenError {
    /// The client's own files.
    Files(Failure),
    /// The network or the server.
    Connect(
        #[allow(dead_code, reason = "kept for the debugger: the diagnosis looks again by itself")]
        tonic::transport::Error,
    ),
}

async fn connect_one(settings: &Settings, place: &Place) -> Result<(Channel, Place), OpenError> {
    let tls = if place.tls { Some(tls::config(settings).map_err(OpenError::Files)?) } else { None };
    let wait = settings.dial_timeout;
    let target = place.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let (target, tls) = (target.clone(), tls.clone());
        async move {
            let stream = connect(&target, tls.as_ref(), wait).await?;
            Ok::<_, ConnectError>(TokioIo::new(Carrier(stream)))
        }
    });
    let authority = match &place.address {
        super::endpoint::Address::Tcp(target) => target.as_str(),
        super::endpoint::Address::Unix(_) => "localhost",
    };
    let scheme = if place.tls { "https" } else { "http" };
    let uri =
        |text: String| Uri::try_from(text).unwrap_or_else(|_| Uri::from_static("http://unreadable.invalid"));
    let endpoint = Channel::builder(uri(format!("http://{authority}")))
        .origin(uri(format!("{scheme}://{authority}")))
        .http2_keep_alive_interval(settings.keepalive_time.max(KEEPALIVE_MIN))
        .keep_alive_timeout(settings.keepalive_timeout)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    let channel = endpoint.connect_with_connector(connector).await.map_err(OpenError::Connect)?;
    Ok((channel, place.clone()))
}
