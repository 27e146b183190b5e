//! Looking at servers for others than the client's own commands: plain HTTP pages, and answers as JSON.
//!
//! Called by: `check datascale`, `keelson doctor`, `keelson debug bundle`.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::clock::Clock;
use crate::failure::{ERROR, Failure};
use crate::net::client::Client;
use crate::net::connector::connect;
use crate::net::endpoint::Place;
use crate::net::settings::Settings;
use crate::net::tls;
use crate::print::Json;

/// What a page came with.
#[derive(Clone, Debug)]
pub struct Page {
    /// Status line and headers.
    pub head: String,
    /// The rest, unpacked from chunks.
    pub body: String,
    /// How long it took, connecting included.
    pub took: std::time::Duration,
}

impl Page {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (header, value) = line.split_once(':')?;
            header.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The code of the status line.
    pub fn status(&self) -> Option<u16> {
        self.head.split_whitespace().nth(1)?.parse().ok()
    }
}

/// Fetches a page in HTTP/1.1.
///
/// # Errors
/// Without an answer in time.
pub async fn page(settings: &Settings, endpoint: &str, path: &str) -> Result<Page, Failure> {
    let place = Place::parse(endpoint, settings);
    let failed = |why: String| {
        Failure::new(ERROR, format!("no page {path} from {endpoint}"))
            .tried(format!("{}{path}", place.url()))
            .seen(why)
    };
    let tls = match place.tls {
        true => {
            let mut config = (*tls::config(settings)?).clone();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Some(Arc::new(config))
        }
        false => None,
    };
    let clock = Clock::start();
    let exchange = async {
        let mut stream =
            connect(&place, tls.as_ref(), settings.dial_timeout).await.map_err(|error| error.to_string())?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", place.target());
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer).await {
            // Some servers leave out the goodbye of TLS.
            Err(error) if answer.is_empty() => Err(error.to_string()),
            _ => Ok(answer),
        }
    };
    let answer = match tokio::time::timeout(settings.command_timeout, exchange).await {
        Ok(answer) => answer.map_err(failed)?,
        Err(_) => return Err(failed("no answer in time".to_owned())),
    };
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| failed("that was no HTTP".to_owned()))?;
    let page = Page { head: head.to_owned(), body: String::new(), took: clock.elapsed() };
    let chunked = page.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    Ok(Page { body: if chunked { unchunked(body) } else { body.to_owned() }, ..page })
}

/// Chunks are a length in hexadecimal digits, a line end, and so many bytes.
fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..size).filter(|chunk| !chunk.is_empty()) else { break };
        whole.push_str(chunk);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

/// Status, members and alarms as a server tells them: names of files, and JSON.
pub async fn facts(settings: &Settings, endpoint: &str) -> Vec<(&'static str, String)> {
    let client = match Client::open(&settings.at(endpoint)).await {
        Ok(client) => client,
        Err(failure) => return vec![("unreachable.txt", failure.text())],
    };
    let status = client.status().await.map(|answer| Json::message("etcdserverpb.StatusResponse", &answer));
    let members =
        client.members(false).await.map(|answer| Json::message("etcdserverpb.MemberListResponse", &answer));
    let alarms = client.alarms().await.map(|answer| Json::message("etcdserverpb.AlarmResponse", &answer));
    [("status.json", status), ("members.json", members), ("alarms.json", alarms)]
        .into_iter()
        .map(|(name, answer)| {
            (name, answer.map_or_else(|failure| failure.text(), |json| json.render() + "\n"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together() {
        assert_eq!(unchunked("4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n"), "Wikipedia");
        assert_eq!(unchunked("zz\r\nx"), "");
    }
}
