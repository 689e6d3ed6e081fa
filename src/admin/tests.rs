//! The admin listener against clients good and bad, over real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::{Answer, Handle, Limits, Page, serve};

/// Longer than any of the deadlines under test; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

fn pages(page: Page) -> Answer {
    let (well, content_type, body) = match page {
        Page::Metrics => (true, "text/plain; version=0.0.4", "molia_x 1\n".repeat(10_000)),
        Page::Health => (true, "text/plain; charset=utf-8", "ok\n".into()),
        Page::Ready => (false, "text/plain; charset=utf-8", "shard 0 has not turned\n".into()),
        Page::Status => (true, "application/json", "{}".into()),
    };
    Answer { well, content_type, body }
}

fn start(limits: Limits) -> Handle {
    serve(TcpListener::bind("127.0.0.1:0").unwrap(), limits, pages).unwrap()
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything until the server closes; a reset counts as closing.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        Ok(_) | Err(_) => String::from_utf8(bytes).unwrap(),
    }
}

fn ask(to: SocketAddr, request: &str) -> String {
    let mut stream = connect(to);
    stream.write_all(request.as_bytes()).unwrap();
    rest(&mut stream)
}

fn get(to: SocketAddr, path: &str) -> String {
    ask(to, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn every_page_is_served_with_its_type() {
    let admin = start(Limits::default());
    let metrics = get(admin.local_addr(), "/metrics");
    assert_eq!(status(&metrics), "200");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4\r\n"), "{metrics:.300}");
    assert!(metrics.ends_with(&"molia_x 1\n".repeat(10_000)));
    assert_eq!(status(&get(admin.local_addr(), "/healthz")), "200");
    assert_eq!(status(&get(admin.local_addr(), "/status.json?x=1")), "200");
    let ready = get(admin.local_addr(), "/readyz");
    assert_eq!(status(&ready), "503");
    assert!(ready.ends_with("shard 0 has not turned\n"));
    assert!(get(admin.local_addr(), "/").contains("/metrics\n"));
}

#[test]
fn a_connection_serves_several_requests_and_head_has_no_body() {
    let admin = start(Limits::default());
    let request = "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n\
                   GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let responses = ask(admin.local_addr(), request);
    assert!(!responses.contains("molia_x"));
    assert!(responses.contains("content-length: 100000\r\n"), "{responses}");
    assert!(responses.ends_with("\r\n\r\nok\n"), "{responses}");
}

#[test]
fn what_is_not_served_is_refused() {
    let admin = start(Limits::default());
    let to = admin.local_addr();
    assert_eq!(status(&get(to, "/etc/passwd")), "404");
    assert_eq!(status(&get(to, "/metrics/")), "404");
    let close = "Host: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let posted = ask(to, &format!("POST /metrics HTTP/1.1\r\n{close}"));
    assert_eq!(status(&posted), "405");
    assert!(posted.contains("allow: GET, HEAD\r\n"));
    assert_eq!(status(&ask(to, "nonsense\r\n\r\n")), "400");
    // The preface of HTTP/2, as a client with prior knowledge sends it.
    let preface = ask(to, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(!preface.contains("200 OK"), "{preface}");
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let admin = start(Limits::default());
    let mut stream = connect(admin.local_addr());
    let line = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n", "x".repeat(64 * 1024));
    // It may close before it has everything.
    let _ = stream.write_all(line.as_bytes());
    let response = rest(&mut stream);
    assert!(response.is_empty() || status(&response) == "431", "{response}");
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(65));
    assert_eq!(status(&ask(admin.local_addr(), &many)), "431");
}

#[test]
fn who_never_finishes_a_request_is_closed() {
    let limits = Limits { header: Duration::from_millis(50), ..Limits::default() };
    let admin = start(limits);
    for half in ["", "GET /metrics HT", "GET /metrics HTTP/1.1\r\nHost: x\r\n"] {
        let response = ask(admin.local_addr(), half);
        assert!(response.is_empty() || status(&response) == "408", "{response}");
    }
}

#[test]
fn who_keeps_trickling_is_closed_at_the_connections_deadline() {
    let limits = Limits { connection: Duration::from_millis(200), ..Limits::default() };
    let admin = start(limits);
    let mut stream = connect(admin.local_addr());
    // One request after another on the same connection, until it is closed.
    let mut buffer = [0; 4096];
    let closed = (0..1_000_000).any(|_| {
        let wrote = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        wrote.is_err() || matches!(stream.read(&mut buffer), Ok(0) | Err(_))
    });
    assert!(closed);
}

#[test]
fn who_does_not_read_the_answer_is_closed() {
    let limits = Limits { connection: Duration::from_millis(200), ..Limits::default() };
    let admin = start(limits);
    let mut stream = connect(admin.local_addr());
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    stream.write_all(request.as_bytes()).unwrap();
    // 20 MB of answers do not fit any buffer: it waits for us, then gives up.
    let wanted = 200 * 100_000;
    std::thread::park_timeout(Duration::from_millis(300));
    assert!(rest(&mut stream).len() < wanted);
    assert_eq!(status(&get(admin.local_addr(), "/healthz")), "200");
}

#[test]
fn many_silent_connections_do_not_lock_others_out() {
    let limits = Limits { connections_max: 8, ..Limits::default() };
    let admin = start(limits);
    let mut silent: Vec<TcpStream> = (0..200).map(|_| connect(admin.local_addr())).collect();
    assert_eq!(status(&get(admin.local_addr(), "/healthz")), "200");
    // Long before the deadline for their heads, all but the last few are closed.
    let mut closed = silent.iter_mut().take(200 - 8);
    assert!(closed.all(|stream| rest(stream).is_empty()));
}

#[test]
fn dropping_the_handle_frees_the_port() {
    let admin = start(Limits::default());
    let to = admin.local_addr();
    let mut open = connect(to);
    drop(admin);
    assert!(rest(&mut open).is_empty());
    assert!(TcpStream::connect(to).is_err());
}
