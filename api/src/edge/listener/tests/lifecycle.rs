//! Runtimes and shutdown.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[tokio::test]
async fn connections_spread_evenly_and_stay_on_their_runtime() {
    let options = ServerOptions { runtimes: 3, ..quick() };
    let server = TestServer::start("http://127.0.0.1:0", None, options);
    let mut clients = Vec::new();
    for _ in 0..9 {
        let mut client = Client::plain(server.address(), true).await.unwrap();
        let place = client.get("/runtime").await.unwrap();
        clients.push((client, place));
    }
    assert_eq!(server.server.stats().active_by_runtime(), [3, 3, 3]);
    let places: HashSet<&String> = clients.iter().map(|(_, place)| place).collect();
    assert_eq!(
        places,
        HashSet::from([
            &"0 keelson-edge-0".to_owned(),
            &"1 keelson-edge-1".to_owned(),
            &"2 keelson-edge-2".to_owned(),
        ])
    );
    for (client, place) in &mut clients {
        assert_eq!(client.get("/runtime").await.unwrap(), *place);
    }
    // The runtime that lost its connections gets the next ones.
    clients.retain(|(_, place)| !place.starts_with('1'));
    eventually("runtime 1 is empty", || server.server.stats().active_by_runtime() == [3, 0, 3]).await;
    let mut next = Client::plain(server.address(), true).await.unwrap();
    assert!(next.get("/runtime").await.unwrap().starts_with('1'));
    drop(clients);
    drop(next);
    assert_eq!(server.server.shutdown(Duration::from_secs(20)).await.forced, 0);
}

#[test]
fn the_factory_runs_once_per_runtime_and_the_server_needs_no_runtime_of_the_caller() {
    let urls: Vec<ListenUrl> = vec!["http://127.0.0.1:0".parse().unwrap()];
    let bind = || Listener::bind_all(&urls, None, &BindOptions::default()).unwrap();
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let factory = move |index: usize| {
        tokio::spawn(std::future::ready(())); // must be possible
        count.fetch_add(1 << (8 * index), Ordering::SeqCst);
        Router::new()
    };
    let options = ServerOptions { runtimes: 2, ..quick() };
    let server = Server::start(bind(), options, factory).unwrap();
    let caller = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    caller.block_on(async {
        eventually("both made", || made.load(Ordering::SeqCst) == 0x101).await;
        server.shutdown(Duration::from_secs(20)).await;
    });
    let error = Server::start(bind(), quick(), |_| Router::new()).unwrap_err();
    assert!(matches!(error, ListenError::NoRuntime), "{error}");
}

#[tokio::test]
async fn shutdown_lets_requests_finish() {
    for (runtimes, h2) in [(0, true), (0, false), (2, true), (2, false)] {
        let server = TestServer::start("http://127.0.0.1:0", None, ServerOptions { runtimes, ..quick() });
        let (address, gate) = (server.address(), server.gate.clone());
        let mut busy = Client::plain(address, h2).await.unwrap();
        let mut idle = Client::plain(address, h2).await.unwrap();
        idle.get("/who").await.unwrap();
        let request = tokio::spawn(async move { busy.get("/wait").await });
        soon("the request is inside", gate.entered.notified()).await;
        let stats = Arc::clone(server.server.stats());
        let shutdown = tokio::spawn(server.server.shutdown(Duration::from_secs(20)));
        eventually("the idle connection is gone", || stats.active() == 1).await;
        eventually("nobody listens", || std::net::TcpStream::connect(address).is_err()).await;
        assert!(!shutdown.is_finished());
        gate.open.notify_one();
        assert_eq!(soon("the answer", request).await.unwrap().unwrap(), "done");
        let report = soon("shutdown", shutdown).await.unwrap();
        assert_eq!(report, ShutdownReport { open: 2, forced: 0 });
        assert!(idle.get("/who").await.is_err());
    }
}

#[tokio::test]
async fn shutdown_closes_what_does_not_finish() {
    for runtimes in [0, 1] {
        let server = TestServer::start("http://127.0.0.1:0", None, ServerOptions { runtimes, ..quick() });
        let gate = server.gate.clone();
        let mut busy = Client::plain(server.address(), true).await.unwrap();
        let request = tokio::spawn(async move { busy.get("/wait").await });
        soon("the request is inside", gate.entered.notified()).await;
        let silent = TcpStream::connect(server.address()).await.unwrap();
        let report = soon("shutdown", server.server.shutdown(Duration::from_millis(50))).await;
        assert_eq!(report.forced, 1, "the silent connection had nothing to finish: {report:?}");
        assert!(soon("the request ends", request).await.unwrap().is_err());
        drop(silent);
    }
}

#[tokio::test]
async fn dropping_the_server_closes_everything() {
    let server = TestServer::start("http://127.0.0.1:0", None, ServerOptions { runtimes: 1, ..quick() });
    let stats = Arc::clone(server.server.stats());
    let address = server.address();
    let mut client = Client::plain(address, true).await.unwrap();
    client.get("/who").await.unwrap();
    drop(server);
    eventually("the connection is gone", || stats.active() == 0).await;
    eventually("nobody listens", || std::net::TcpStream::connect(address).is_err()).await;
}

#[tokio::test]
async fn unix_sockets_plain_and_tls() {
    let pki = Pki::new();
    let (plain, tls) = (pki.path().join("plain.sock"), pki.path().join("tls.sock"));
    let urls = [format!("unix://{}", plain.display()), format!("unixs://{}", tls.display())];
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let alice = pki.ca.client("alice");
    let server =
        TestServer::start_all(&urls, Some(pki.mutual()), ServerOptions { runtimes: 1, ..quick() }, |l| l);
    let socket = tokio::net::UnixStream::connect(&plain).await.unwrap();
    assert_eq!(Client::over(socket, true).await.unwrap().get("/who").await.unwrap(), "nobody");
    let socket = tokio::net::UnixStream::connect(&tls).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(pki.client(Some(&alice)))).connect(name, socket).await.unwrap();
    assert_eq!(Client::over(stream, true).await.unwrap().get("/who").await.unwrap(), "alice");
    server.server.shutdown(Duration::from_secs(20)).await;
    assert!(!plain.exists() && !tls.exists(), "socket files are removed");
}
