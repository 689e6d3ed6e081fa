//! A NAT gives a client another port in the middle of a transfer.

use std::time::Duration;

use serde_json::Value;

use crate::lab::{self, Behaviour, Lab, Nat, Rebind};
use crate::product::{Deployment, PATIENCE};

/// Datagrams of the transfer, and for how long: one in 10 ms.
const SENT: u64 = 600;
const SECONDS: u64 = 6;
/// As many as are on their way until somebody notices, which is half a second.
const LOST_MAX: u64 = 60;

#[test]
fn a_transfer_goes_on_when_a_nat_changes_the_port() {
    lab::run(|| {
        let mut lab = Lab::new()?;
        let server = lab.server()?;
        let routers = [
            lab.router(Nat::new(Behaviour::PortRestricted))?,
            lab.router(Nat::new(Behaviour::FullCone))?,
        ];
        let clients = [lab.client(routers[0])?, lab.client(routers[1])?];
        let deployment = Deployment::start(&lab, server, "rebinding")?;
        for (way, kind) in [(&["--relay-only"][..], "relay"), (&["--no-relay"], "direct")] {
            let (count, seconds) = (SENT.to_string(), SECONDS.to_string());
            let args = [way, &["--count", &count, "--for", &seconds]].concat();
            let [puncher, mut listener] = deployment.begin(&lab, clients, &args);
            // In the middle: whatever the listener says meanwhile.
            let half = Duration::from_secs(SECONDS / 2);
            let _ = listener.expect(half, |_| None::<()>);
            lab.rebind(routers[0], Rebind::Port)?;
            let ended = puncher.finish(PATIENCE);
            assert!(ended.well, "{kind}: {ended:?}");
            let found: Value = serde_json::from_str(&ended.stdout).unwrap();
            let echoed = found["echoed"].as_u64().unwrap_or_default();
            assert_eq!(found["path"]["kind"], kind, "{found}");
            assert!(SENT - echoed <= LOST_MAX, "{kind}: {} of {SENT} lost: {found}", SENT - echoed);
            let established = found["steps"].as_array().into_iter().flatten();
            let handshakes = established.filter(|step| step["step"] == "established").count();
            assert_eq!(handshakes, 1, "{kind}: no new handshake: {found}");
        }
        Ok(())
    });
}
