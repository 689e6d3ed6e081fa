//! What the router shows of itself: plain HTTP for Prometheus, probes and people.
//!
//! GET and HEAD of `/metrics`, `/healthz`, `/readyz` and `/status.json`. It runs on a
//! thread of its own and reads counter cells only, so nothing that is asked here ever
//! touches a packet thread; connections, their time and their memory are bounded
//! ([`Limits`]). There is no authentication and no encryption: it listens on
//! the loopback interface unless `admin/listen` says otherwise.

mod http;
mod pages;
pub mod report;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

pub use pages::Pages;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`: Prometheus text.
    Metrics,
    /// `/healthz`: the process lives.
    Health,
    /// `/readyz`: it serves.
    Ready,
    /// `/status.json`: all of it for programs.
    Status,
}

impl Page {
    /// Every page with its path.
    pub const PATHS: [(&'static str, Self); 4] = [
        ("/metrics", Self::Metrics),
        ("/healthz", Self::Health),
        ("/readyz", Self::Ready),
        ("/status.json", Self::Status),
    ];
}

/// A page's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether all is well: 200, else 503.
    pub well: bool,
    /// MIME type.
    pub content_type: &'static str,
    /// The page.
    pub body: String,
}

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; one more closes the oldest.
    pub connections_max: usize,
    /// Time to send a request's head, and to stay silent between requests.
    pub header: Duration,
    /// Time a connection lives in all.
    pub connection: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 64,
            header: Duration::from_secs(5),
            connection: Duration::from_secs(10),
        }
    }
}

/// A running listener; dropping it closes it with all its connections.
#[derive(Debug)]
pub struct Handle {
    local_addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Serves `pages` on `listener` from a thread of its own.
///
/// # Errors
/// If the listener cannot be used or the thread not be started.
pub fn serve<F>(listener: TcpListener, limits: Limits, pages: F) -> io::Result<Handle>
where
    F: Fn(Page) -> Answer + Send + Sync + 'static,
{
    listener.set_nonblocking(true)?;
    let local_addr = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async {
            tokio::spawn(http::accept(listener, limits, pages));
            // Either way, stop: a handle that is gone cannot say so.
            let _ = stopped.await;
        });
        // Dropping the runtime drops the connections.
    })?;
    Ok(Handle { local_addr, stop: Some(stop), thread: Some(thread) })
}

impl Handle {
    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}
