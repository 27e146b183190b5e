//! `member`: add, remove, update, list, promote.

use keelson_proto::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;

use super::range::is_serializable;
use super::{Context, Done, expect_arguments};
use crate::failure::{ERROR, Failure};
use crate::go::{self, quote};
use crate::net::client::Repeat;
use crate::print::{Form, out};

fn id_of(context: &Context<'_>) -> Result<u64, Failure> {
    expect_arguments(context, 1, "member ID is not provided")?;
    go::parse_uint(&context.arguments()[0], 16)
        .map_err(|why| Failure::arguments(format!("bad member ID arg ({why}), expecting ID in Hex")))
}

fn peer_urls(context: &Context<'_>) -> Result<Vec<String>, Failure> {
    match context.call.text("peer-urls") {
        "" => {
            Err(Failure::arguments("member peer urls not provided").help("give --peer-urls=http://host:2380"))
        }
        urls => urls.split(',').map(|url| checked(url.trim())).collect(),
    }
}

/// Peers are reached by a scheme, a host and a port, and nothing else. Source: etcd client/pkg/types/urls.go.
fn checked(url: &str) -> Result<String, Failure> {
    let wrong = |why: &str| {
        Err(Failure::new(ERROR, format!("{why}: {url}")).help("peer URLs are such as http://10.0.0.4:2380"))
    };
    let scheme = "URL scheme must be http, https, unix, or unixs";
    match url.split_once("://") {
        Some(("http" | "https", rest)) => match rest.split_once('/') {
            Some((_, path)) if !path.is_empty() => wrong("URL must not contain a path"),
            _ if !rest.contains(':') => wrong("URL address does not have the form \"host:port\""),
            _ => Ok(url.to_owned()),
        },
        Some(("unix" | "unixs", _)) => Ok(url.to_owned()),
        _ => wrong(scheme),
    }
}

pub(super) async fn add(context: &Context<'_>) -> Done {
    let name = match context.arguments() {
        [] => return Err(Failure::arguments("member name not provided")),
        [name] => name,
        many => {
            let urls = many.iter().filter(|word| word.to_lowercase().starts_with("http"));
            let hint: String = urls.map(|url| format!(", did you mean --peer-urls={url}")).collect();
            return Err(Failure::arguments(format!("too many arguments{hint}")));
        }
    };
    let request =
        pb::MemberAddRequest { peer_ur_ls: peer_urls(context)?, is_learner: context.call.switch("learner") };
    let client = context.client().await?;
    let answer = client
        .call(Repeat::No, request, |channel, request| async move {
            ClusterClient::new(channel).member_add(request).await
        })
        .await?;
    context.printer.member_add(&answer)?;
    if context.printer.form != Form::Simple {
        return Ok(());
    }
    let new = answer.member.as_ref().map_or(0, |member| member.id);
    let pairs = answer.members.iter().flat_map(|member| {
        let shown = if member.id == new { name } else { &member.name };
        member.peer_ur_ls.iter().map(move |url| format!("{shown}={url}"))
    });
    let cluster = pairs.collect::<Vec<_>>().join(",");
    out::text(&format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        quote(name.as_bytes()),
        quote(cluster.as_bytes()),
        quote(context.call.text("peer-urls").as_bytes()),
    ))
}

pub(super) async fn remove(context: &Context<'_>) -> Done {
    let id = id_of(context)?;
    let client = context.client().await?;
    let answer = client
        .call(Repeat::No, pb::MemberRemoveRequest { id }, |channel, request| async move {
            ClusterClient::new(channel).member_remove(request).await
        })
        .await?;
    context.printer.member_remove(id, &answer)
}

pub(super) async fn update(context: &Context<'_>) -> Done {
    let id = id_of(context)?;
    let request = pb::MemberUpdateRequest { id, peer_ur_ls: peer_urls(context)? };
    let client = context.client().await?;
    let answer = client
        .call(Repeat::No, request, |channel, request| async move {
            ClusterClient::new(channel).member_update(request).await
        })
        .await?;
    context.printer.member_update(id, &answer)
}

pub(super) async fn list(context: &Context<'_>) -> Done {
    let serializable = is_serializable(context.call.text("consistency"))?;
    let answer = context.client().await?.members(!serializable).await?;
    context.printer.member_list(&answer)
}

pub(super) async fn promote(context: &Context<'_>) -> Done {
    let id = id_of(context)?;
    let client = context.client().await?;
    let answer = client
        .call(Repeat::No, pb::MemberPromoteRequest { id }, |channel, request| async move {
            ClusterClient::new(channel).member_promote(request).await
        })
        .await?;
    context.printer.member_promote(id, &answer)
}
