//! Laboratories do not meet, and leave nothing behind.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::{self, Behaviour, Lab, Nat, Process};
use crate::prober::Responder;

fn runs(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[test]
fn processes_live_inside_and_end_with_their_handles() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let mut process = lab.spawn(
            server.host,
            Command::new("sh").args(["-c", "cat /proc/net/fib_trie; echo ready; exec sleep 60"]),
        )?;
        let mut own_address = false;
        let ready = process.expect(Duration::from_secs(5), |line| {
            own_address |= line.contains(&server.v4[1].to_string());
            (line == "ready").then_some(())
        });
        assert_eq!((ready, own_address), (Ok(()), true));
        let id = process.id();
        let unwound = panic::catch_unwind(AssertUnwindSafe(|| {
            let _process = process;
            panic::resume_unwind(Box::new("a test that fails"));
        }));
        assert!(unwound.is_err() && !runs(id));
        Ok(())
    });
}

#[test]
fn a_process_is_waited_for_and_then_killed() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let host = lab.server()?.host;
        let script = |text: &str| -> Result<Process, lab::Missing> {
            Ok(lab.spawn(host, Command::new("sh").args(["-c", text]))?)
        };
        let ended = script("echo out; echo err >&2")?.finish(Duration::from_secs(5));
        assert!(ended.well, "{ended:?}");
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
        assert!(!script("exit 3")?.finish(Duration::from_secs(5)).well);
        let slow = script("echo begun; exec sleep 60")?;
        let id = slow.id();
        let ended = slow.finish(Duration::from_millis(300));
        assert!(!ended.well && !runs(id));
        assert_eq!(ended.stdout, "begun\n");
        Ok(())
    });
}

#[test]
fn laboratories_with_the_same_addresses_stand_side_by_side() {
    lab::run(|| {
        let (mut one, mut other) = (Lab::new()?, Lab::new()?);
        let (here, there) = (one.server()?, other.server()?);
        let client = one.client_behind(Nat::new(Behaviour::Linux))?;
        let alone = other.client_behind(Nat::new(Behaviour::Linux))?;
        let responder = Responder::new(&one, here, false);
        assert_eq!(here.v4, there.v4);
        let seen = responder.seen(&responder.socket(&one, client.host));
        assert!(seen.is_some());
        // The same address of the other laboratory, where nobody listens.
        assert_eq!(responder.seen(&responder.socket(&other, alone.host)), None);
        Ok(())
    });
}
