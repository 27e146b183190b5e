//! Servers: accept loops, runtimes and shutdown.
//!
//! Owns: [`Server`]. Invariants: every accepted socket is handed to the runtime with the fewest connections and stays
//! there; an accept error never ends the loop; shutdown first stops accepting, then lets requests finish within the
//! given time, then closes; afterwards no thread of the server is left.
//! Called by: the wiring. Source: design D10 (few connections spread badly over SO_REUSEPORT sockets, so one acceptor
//! hands them out).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::bind::{ListenError, ListenSocket, Listener};
use super::connection::{self, BoxError, RemoteAddress, Shared};
use super::options::ServerOptions;
use super::pending::Pending;
use super::stats::EdgeStats;
use super::stream::Transport;
use crate::edge::clock;
use crate::edge::tls::ServerTls;
use crate::edge::tls::san::Resolver;

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    Draining,
    Closing,
}

/// What connections know of the address they came in at.
pub(crate) struct Endpoint {
    pub(crate) name: Arc<str>,
    pub(crate) plain: bool,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) peer_resolver: Option<Arc<dyn Resolver>>,
}

/// An accepted socket on its way to a runtime.
struct Accepted {
    endpoint: Arc<Endpoint>,
    socket: RawSocket,
    remote: RemoteAddress,
    permit: OwnedSemaphorePermit,
}

enum RawSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Connections that were open when it began.
    pub open: usize,
    /// Connections that had to be closed because the time was over.
    pub forced: usize,
}

/// A running server. Dropping it closes everything at once; [`Server::shutdown`] is the polite way.
pub struct Server {
    addresses: Vec<Option<SocketAddr>>,
    stats: Arc<EdgeStats>,
    /// One per runtime, so that connections of different runtimes share no lock, and a last one for the acceptors.
    phases: Vec<watch::Sender<Phase>>,
    finished: Vec<oneshot::Receiver<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// A way to give a runtime its connections.
struct Worker {
    sender: mpsc::UnboundedSender<Accepted>,
}

impl Server {
    /// Starts to serve `listeners`.
    ///
    /// `factory` makes the service of each runtime; it is called once per runtime, on that runtime (so it may spawn
    /// tasks), with the runtime's index. Connections clone the service.
    ///
    /// With `options.runtimes == 0` everything runs on the caller's tokio runtime.
    ///
    /// # Errors
    /// A thread or runtime could not be made, or there is no runtime to run on.
    pub fn start<F, S, B>(
        listeners: Vec<Listener>,
        options: ServerOptions,
        factory: F,
    ) -> Result<Self, ListenError>
    where
        F: Fn(usize) -> S + Send + Sync + 'static,
        S: tower::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let workers = options.runtimes.max(1);
        let pending = Pending::new(options.handshakes_pending_max);
        let stats = Arc::new(EdgeStats::new(workers, Arc::clone(&pending)));
        let own_runtimes = options.runtimes;
        let shared = Arc::new(Shared::new(options, Arc::clone(&stats), pending));
        let phases: Vec<_> = (0..=workers).map(|_| watch::Sender::new(Phase::Serving)).collect();
        let addresses = listeners.iter().map(Listener::local_address).collect();
        let mut server = Server { addresses, stats, phases, finished: Vec::new(), threads: Vec::new() };

        let factory = Arc::new(factory);
        let mut senders = Vec::with_capacity(workers);
        for index in 0..workers {
            // Bounded by `connections_max`: whatever is in it holds a permit.
            let (sender, receiver) = mpsc::unbounded_channel();
            senders.push(Worker { sender });
            let (done, finished) = oneshot::channel::<()>();
            server.finished.push(finished);
            let (shared, factory) = (Arc::clone(&shared), Arc::clone(&factory));
            let phase = server.phases[index].subscribe();
            let work = move || async move {
                let service = factory(index);
                drop(factory);
                run_worker(shared, index, service, receiver, phase).await;
                drop(done);
            };
            if own_runtimes == 0 {
                tokio::runtime::Handle::try_current().map_err(|_| ListenError::NoRuntime)?.spawn(work());
            } else {
                server.threads.push(spawn_thread(&format!("keelson-edge-{index}"), work)?);
            }
        }

        let (done, finished) = oneshot::channel::<()>();
        server.finished.push(finished);
        let phase = server.phases[workers].subscribe();
        let accept = move || async move {
            accept_all(listeners, shared, senders, phase).await;
            drop(done);
        };
        if own_runtimes == 0 {
            tokio::runtime::Handle::try_current().map_err(|_| ListenError::NoRuntime)?.spawn(accept());
        } else {
            server.threads.push(spawn_thread("keelson-accept", accept)?);
        }
        Ok(server)
    }

    /// Bound addresses in the order of the listeners; `None` for Unix sockets.
    #[must_use]
    pub fn local_addresses(&self) -> &[Option<SocketAddr>] {
        &self.addresses
    }

    /// Live counts.
    #[must_use]
    pub fn stats(&self) -> &Arc<EdgeStats> {
        &self.stats
    }

    /// Stops accepting, tells every connection to finish, waits up to `grace`, closes what is left.
    ///
    /// Streams without an end of their own (watches) are the services' to end; otherwise they use up the grace time.
    /// # Cancel safety
    /// Dropping the future closes everything at once.
    pub async fn shutdown(mut self, grace: Duration) -> ShutdownReport {
        let open = self.stats.active();
        self.set_phase(Phase::Draining);
        let finished = std::mem::take(&mut self.finished);
        let mut all = std::pin::pin!(async move {
            for one in finished {
                drop(one.await); // completes when the sender is dropped
            }
        });
        let mut forced = 0;
        if clock::within(grace, all.as_mut()).await.is_none() {
            forced = self.stats.active();
            self.set_phase(Phase::Closing);
            all.await;
        }
        // The threads have nothing left to do but to return.
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a connection thread ended by a panic");
            }
        }
        ShutdownReport { open, forced }
    }

    fn set_phase(&self, phase: Phase) {
        // Acceptors first: nothing new may come in while connections leave.
        for sender in self.phases.iter().rev() {
            sender.send_replace(phase);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.set_phase(Phase::Closing);
    }
}

fn spawn_thread<W, Fut>(name: &str, work: W) -> Result<JoinHandle<()>, ListenError>
where
    W: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ListenError::Runtime)?;
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            runtime.block_on(work());
            // Name lookups may still run on a blocking thread; nobody waits for their result.
            runtime.shutdown_background();
        })
        .map_err(ListenError::Runtime)
}

/// Serves what the acceptor hands over, until it stops handing over and the last connection has ended.
async fn run_worker<S, B>(
    shared: Arc<Shared>,
    index: usize,
    service: S,
    mut incoming: mpsc::UnboundedReceiver<Accepted>,
    phase: watch::Receiver<Phase>,
) where
    S: tower::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    while let Some(accepted) = incoming.recv().await {
        let Accepted { endpoint, socket, remote, permit } = accepted;
        let transport = match socket {
            RawSocket::Tcp(socket) => TcpStream::from_std(socket).map(Transport::Tcp),
            RawSocket::Unix(socket) => UnixStream::from_std(socket).map(Transport::Unix),
        };
        let leaving = Leaving { shared: Arc::clone(&shared), index, _permit: permit, _alive: alive.clone() };
        match transport {
            Ok(transport) => {
                let (shared, service, phase) = (Arc::clone(&shared), service.clone(), phase.clone());
                tokio::spawn(async move {
                    let _leaving = leaving;
                    connection::serve(shared, endpoint, transport, remote, index, service, phase).await;
                });
            }
            Err(error) => tracing::warn!(%remote, %error, "cannot register a connection with its runtime"),
        }
    }
    drop(alive);
    drop(service);
    // Nothing is ever sent: this returns when the last connection has dropped its end.
    all_gone.recv().await;
}

/// Counts a connection out, also when its task panics.
struct Leaving {
    shared: Arc<Shared>,
    index: usize,
    _permit: OwnedSemaphorePermit,
    _alive: mpsc::Sender<()>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let before = self.shared.stats.workers[self.index].0.active.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a connection was counted out twice");
    }
}

async fn accept_all(
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    phase: watch::Receiver<Phase>,
) {
    let workers = Arc::new(workers);
    let turn = Arc::new(AtomicUsize::new(0));
    let mut loops = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let (shared, workers, turn) = (Arc::clone(&shared), Arc::clone(&workers), Arc::clone(&turn));
        let mut phase = phase.clone();
        loops.push(tokio::spawn(async move {
            let stop = async move { drop(phase.wait_for(|phase| *phase != Phase::Serving).await) };
            tokio::select! {
                biased;
                () = stop => {}
                () = accept_loop(listener, shared, workers, turn) => {}
            }
        }));
    }
    drop(workers);
    for one in loops {
        if let Err(error) = one.await {
            tracing::error!(%error, "an accept loop ended by a panic");
        }
    }
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener, #[allow(dead_code)] super::bind::SocketFile),
}

/// Accepts for ever; returns only if the socket cannot be registered at all.
async fn accept_loop(
    listener: Listener,
    shared: Arc<Shared>,
    workers: Arc<Vec<Worker>>,
    turn: Arc<AtomicUsize>,
) {
    let Listener { name, socket, plain, tls, peer_resolver } = listener;
    let acceptor = match socket {
        ListenSocket::Tcp(socket) => TcpListener::from_std(socket).map(Acceptor::Tcp),
        ListenSocket::Unix(socket, file) => UnixListener::from_std(socket).map(|s| Acceptor::Unix(s, file)),
    };
    let acceptor = match acceptor {
        Ok(acceptor) => acceptor,
        Err(error) => {
            tracing::error!(listener = %name, %error, "cannot register the listening socket");
            return;
        }
    };
    let endpoint = Arc::new(Endpoint { name, plain, tls, peer_resolver });
    let places = Arc::new(Semaphore::new(shared.options.connections_max));
    loop {
        let Ok(permit) = Arc::clone(&places).acquire_owned().await else { return };
        let (socket, remote) = match accept(&acceptor, &shared.options).await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a client that left before it was accepted. Waiting is right for the first and
                // costs nothing for the second; ending the loop would be wrong for both.
                tracing::warn!(listener = %endpoint.name, %error, "cannot accept a connection; trying again");
                clock::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        shared.stats.count_accepted();
        let index = least_loaded(&shared.stats, turn.fetch_add(1, Ordering::Relaxed));
        shared.stats.workers[index].0.active.fetch_add(1, Ordering::Relaxed);
        let accepted = Accepted { endpoint: Arc::clone(&endpoint), socket, remote, permit };
        if workers[index].sender.send(accepted).is_err() {
            shared.stats.workers[index].0.active.fetch_sub(1, Ordering::Relaxed);
            tracing::error!(runtime = index, "a connection runtime is gone; the connection is dropped");
        }
    }
}

/// The runtime with the fewest connections; equals take turns.
fn least_loaded(stats: &EdgeStats, turn: usize) -> usize {
    let count = stats.workers.len();
    (0..count)
        .map(|step| (turn + step) % count)
        .min_by_key(|index| stats.workers[*index].0.active.load(Ordering::Relaxed))
        .expect("a server has at least one runtime")
}

async fn accept(acceptor: &Acceptor, options: &ServerOptions) -> io::Result<(RawSocket, RemoteAddress)> {
    match acceptor {
        Acceptor::Tcp(listener) => {
            let (socket, address) = listener.accept().await?;
            tune(&socket, options);
            Ok((RawSocket::Tcp(socket.into_std()?), RemoteAddress::Tcp(address)))
        }
        Acceptor::Unix(listener, _) => {
            let (socket, _) = listener.accept().await?;
            Ok((RawSocket::Unix(socket.into_std()?), RemoteAddress::Unix))
        }
    }
}

/// Socket options; a socket that refuses one is served all the same.
fn tune(socket: &TcpStream, options: &ServerOptions) {
    let reference = SockRef::from(socket);
    // Finds peers that vanished without a word: first probe after 30 s as in etcd, then three, 10 s apart.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    let outcome =
        socket.set_nodelay(true).and_then(|()| reference.set_tcp_keepalive(&keepalive)).and_then(|()| {
            match options.tcp_user_timeout {
                Some(timeout) => reference.set_tcp_user_timeout(Some(timeout)),
                None => Ok(()),
            }
        });
    if let Err(error) = outcome {
        tracing::debug!(%error, "cannot set options of a connection");
    }
}
