//! Calls of methods that are known by their descriptors alone, with messages written as JSON.
//!
//! Owns: the schema of the tests, [`call`]. Called by: suites that walk over every method there is.

use std::time::Duration;

use futures::stream;
use keelson_proto::dynamic::Dynamic;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, SerializeOptions};
use serde_json::Value;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A stream that says nothing for this long is taken for an open one.
const SILENCE: Duration = Duration::from_secs(2);

/// Every method of every service.
///
/// # Panics
/// If the descriptors of this build cannot be read.
pub fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(keelson_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The first message.
    Message(Value),
    /// The stream ended without one.
    Ended,
    /// The stream stays open and says nothing.
    Silent,
    /// An error.
    Error(Refusal),
}

/// Code and text of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The number of the code.
    pub code: i32,
    /// The text.
    pub message: String,
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        Outcome::Error(Refusal { code: status.code() as i32, message: status.message().to_owned() })
    }
}

/// Calls a method with one message; gives the first answer.
///
/// # Panics
/// If `json` is not a message of the method.
pub async fn call(channel: &Channel, method: &MethodDescriptor, token: Option<&str>, json: &str) -> Outcome {
    let mut reader = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(method.input(), &mut reader)
        .unwrap_or_else(|error| panic!("{}: {json}: {error}", method.full_name()));
    // The client's side stays open: a half-closed stream may be ended by the server before it has answered.
    let open = method.is_client_streaming();
    let messages = futures::StreamExt::chain(
        stream::iter([message]),
        stream::poll_fn(move |_| match open {
            true => std::task::Poll::Pending,
            false => std::task::Poll::Ready(None),
        }),
    );
    let mut request = Request::new(messages);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse().expect("a token"));
    }
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX);
    client.ready().await.expect("a connection");
    let call = client.streaming(request, path.parse().expect("a path"), Dynamic { output: method.output() });
    let mut answers = match tokio::time::timeout(SILENCE, call).await {
        Ok(Ok(answers)) => answers.into_inner(),
        Ok(Err(status)) => return status.into(),
        Err(_) => return Outcome::Silent,
    };
    match tokio::time::timeout(SILENCE, answers.message()).await {
        Ok(Ok(Some(message))) => Outcome::Message(json_of(&message)),
        Ok(Ok(None)) => Outcome::Ended,
        Ok(Err(status)) => status.into(),
        Err(_) => Outcome::Silent,
    }
}

fn json_of(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(serde_json::value::Serializer, &options).expect("JSON")
}
