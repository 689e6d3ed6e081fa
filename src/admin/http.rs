//! HTTP/1.1 with bounds: on connections, on the time of each, on what is read.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{sleep, timeout};

use super::{Answer, Limits, Page};

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// Pause after `accept` fails, as it does when no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const TEXT: &str = "text/plain; charset=utf-8";

/// Accepts connections for ever.
pub(super) async fn accept<F>(listener: TcpListener, limits: Limits, pages: F)
where
    F: Fn(Page) -> Answer + Send + Sync + 'static,
{
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "admin listener"),
    };
    let pages = Arc::new(pages);
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(limits.connections_max + 1);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                make_room(&mut open, limits.connections_max).await;
                let pages = Arc::clone(&pages);
                open.push_back(tokio::spawn(connection(stream, limits, pages)).abort_handle());
            }
            Err(error) => {
                tracing::debug!(%error, "admin accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Closes the oldest connections until one more fits. Answers take no time, so whoever is
/// still here after so many newcomers is slow or idle.
async fn make_room(open: &mut VecDeque<AbortHandle>, connections_max: usize) {
    open.retain(|connection| !connection.is_finished());
    while open.len() >= connections_max.max(1) {
        if let Some(oldest) = open.pop_front() {
            oldest.abort();
        }
        // Lets it drop its socket before we take another.
        yield_now().await;
    }
}

async fn connection<F>(stream: TcpStream, limits: Limits, pages: Arc<F>)
where
    F: Fn(Page) -> Answer,
{
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &*pages);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever goes wrong is the client's doing and over with the connection.
    let _ = timeout(limits.connection, connection).await;
}

fn respond(method: &Method, path: &str, pages: &impl Fn(Page) -> Answer) -> Response<Full<Bytes>> {
    let page = Page::PATHS.iter().find(|(known, _)| *known == path).map(|(_, page)| *page);
    let Some(page) = page else { return missing(path) };
    if method != Method::GET && method != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let Answer { well, content_type, body } = pages(page);
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    response(status, content_type, body)
}

/// `/` is as good a place as any to say what there is.
fn missing(path: &str) -> Response<Full<Bytes>> {
    let status = if path == "/" { StatusCode::OK } else { StatusCode::NOT_FOUND };
    plain(status, Page::PATHS.iter().map(|(path, _)| format!("{path}\n")).collect())
}

fn plain(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    response(status, TEXT, body)
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
