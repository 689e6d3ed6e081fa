//! The real program in a laboratory: a router, and peers that look for each other by it.

use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Client, Lab, Missing, Process, Server};

/// For what nothing waits for unless it fails; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A router on a server, with the files of everybody.
pub(crate) struct Deployment {
    place: Place,
    link: String,
    peers: AtomicU32,
    router: Mutex<Process>,
}

/// A folder that goes with its handle.
pub(crate) struct Place(PathBuf);

/// How two peers met.
#[derive(Clone, Debug)]
pub(crate) struct Meeting {
    pub(crate) direct: bool,
    /// From the request to the first way of any kind, and to the direct one.
    pub(crate) first_path_ms: u64,
    pub(crate) direct_ms: Option<u64>,
    /// Pings through the path, and their answers.
    pub(crate) sent: u64,
    pub(crate) echoed: u64,
}

impl Deployment {
    /// Starts the router at the first address of the server.
    pub(crate) fn start(lab: &Lab, server: Server, name: &str) -> Result<Self, Missing> {
        let place = Place::new(name)?;
        let address = server.v4[0];
        let listen = format!("udp/listen={address}:7743");
        let mut command = place.program();
        command.args(["run", "--config", "config", "--set", &listen]);
        for setting in ["admin/listen=127.0.0.1:0", "relay/allow_private=1", "shards/count=1"] {
            command.args(["--set", setting]);
        }
        let mut router = lab.spawn(server.host, &mut command)?;
        let mut link = None;
        let ready = router.expect(PATIENCE, |line| {
            link = link.take().or_else(|| Some(line.strip_prefix("link ")?.trim().to_owned()));
            line.starts_with("ready ").then_some(())
        });
        ready.unwrap_or_else(|said| panic!("the router did not become ready: {said}"));
        let (link, router) = (link.unwrap(), Mutex::new(router));
        Ok(Self { place, link, peers: AtomicU32::new(0), router })
    }

    /// Lets the first client look for the second one.
    ///
    /// # Errors
    /// What was said, if they do not meet.
    pub(crate) fn meet(&self, lab: &Lab, [a, b]: [Client; 2]) -> Result<Meeting, String> {
        let (a_key, _) = self.identity();
        let (b_key, b_id) = self.identity();
        let router = ["--router", &self.link];
        let listen = [&["punch", "--listen", "--lan", "--identity", &b_key], &router[..]].concat();
        let mut listener = self.spawn(lab, b, &listen);
        // It speaks when the router knows it.
        listener.expect(PATIENCE, |_| Some(()))?;
        let punch =
            [&["punch", &b_id, "--json", "--lan", "--identity", &a_key], &router[..]].concat();
        let ended = self.spawn(lab, a, &punch).finish(PATIENCE);
        let found = serde_json::from_str(&ended.stdout).ok();
        let meeting = found.as_ref().and_then(Meeting::read).filter(|_| ended.well);
        meeting.ok_or_else(|| {
            let heard = listener.finish(Duration::ZERO);
            let served = self.said();
            format!("{punch:?}: {ended:?}\nthe listener: {heard:?}\nthe router: {served}")
        })
    }

    /// What the router said so far.
    fn said(&self) -> String {
        let mut router = self.router.lock().unwrap();
        router.expect(Duration::from_millis(1), |_| None::<()>).unwrap_err()
    }

    fn spawn(&self, lab: &Lab, client: Client, args: &[&str]) -> Process {
        lab.spawn(client.host, self.place.program().args(args)).unwrap()
    }

    /// A new key file, and who it makes one.
    fn identity(&self) -> (String, String) {
        let file = format!("peer-{}.key", self.peers.fetch_add(1, Ordering::Relaxed));
        let made =
            self.place.program().args(["keygen", "--json", "--out", &file]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        (file, made["peer_id"].as_str().unwrap().to_owned())
    }
}

impl Place {
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let path = env::temp_dir().join(format!("molia-nat-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("config"))?;
        let place = Self(path);
        fs::create_dir(place.0.join("run"))?;
        Ok(place)
    }

    /// The program with a clean environment whose every default lies here.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(executable());
        command.env_clear().current_dir(&self.0).env("HOME", &self.0);
        command.env("RUNTIME_DIRECTORY", self.0.join("run"));
        command.env("STATE_DIRECTORY", self.0.join("state"));
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Meeting {
    /// Reads what `punch --json` prints.
    fn read(found: &Value) -> Option<Self> {
        let direct = match found["path"]["kind"].as_str()? {
            "direct" => true,
            "relay" => false,
            _ => return None,
        };
        Some(Self {
            direct,
            first_path_ms: whole_ms(&found["first_path_ms"])?,
            direct_ms: whole_ms(&found["direct_ms"]),
            sent: found["sent"].as_u64()?,
            echoed: found["echoed"].as_u64()?,
        })
    }
}

/// Milliseconds are printed with a fraction.
fn whole_ms(found: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a short time")]
    found.as_f64().map(|ms| ms.ceil() as u64)
}

/// The program: `MOLIA_NAT_PROGRAM`, for instance an optimised one, else the tests' own.
fn executable() -> PathBuf {
    let own = || env!("CARGO_BIN_EXE_molia-router").into();
    env::var_os("MOLIA_NAT_PROGRAM").map_or_else(own, PathBuf::from)
}

#[test]
fn the_report_of_a_meeting_is_understood() {
    let report = |path: &str| {
        serde_json::json!({
            "path": { "kind": path, "address": null },
            "first_path_ms": 119.5, "direct_ms": null, "sent": 5, "echoed": 4,
        })
    };
    let relayed = Meeting::read(&report("relay")).unwrap();
    assert!(!relayed.direct && relayed.direct_ms.is_none());
    assert_eq!((relayed.first_path_ms, relayed.sent, relayed.echoed), (120, 5, 4));
    assert!(Meeting::read(&report("direct")).unwrap().direct);
    assert!(Meeting::read(&report("none")).is_none());
    assert!(Meeting::read(&serde_json::json!({ "path": { "kind": "direct" } })).is_none());
}
