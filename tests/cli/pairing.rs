//! The commands that connect peers: what they refuse before they ask anybody, and without a peer.

use super::place::Place;
use super::running::Router;

const LINK: &str = "--router";

/// A link that nothing listens at.
fn nowhere() -> String {
    format!("molia://{}@127.0.0.1:9?k={}", "00".repeat(32), "A".repeat(43))
}

#[test]
fn a_wrong_command_line_is_told_at_once() {
    let place = Place::new("pair-usage");
    let peer = "ab".repeat(32);
    let usage = |args: &[&str]| assert_eq!(place.run(args).code, 64, "{args:?}");
    usage(&["punch"]);
    usage(&["punch", &peer]);
    usage(&["punch", &peer, LINK, "molia://nothing"]);
    let link = &nowhere();
    usage(&["punch", LINK, link]);
    usage(&["punch", "abc", LINK, link]);
    usage(&["punch", &peer, LINK, link, "--listen"]);
    usage(&["punch", &peer, LINK, link, "--no-relay", "--relay-only"]);
    usage(&["punch", &peer, LINK, link, "--allow", &peer]);
    usage(&["punch", &peer, LINK, link, "--count", "0"]);
    usage(&["punch", &peer, LINK, link, "--for", "0"]);
    usage(&["punch", &peer, LINK, link, "--nat-mapping", "symmetric"]);
    usage(&["explain"]);
    usage(&["explain", LINK, link]);
    usage(&["explain", &peer, LINK, link, "--listen"]);
}

#[test]
fn nobody_is_reached_who_is_not_there() {
    let place = Place::new("pair-nobody");
    let router = Router::start(&place, &[]);
    let link = router.line("link").to_owned();
    let peer = "ab".repeat(32);
    let ended = place.run(&["punch", &peer, LINK, &link]);
    assert_eq!(ended.code, 69, "{ended:?}");
    let told = place.run(&["explain", &peer, LINK, &link]);
    assert_eq!(told.code, 69, "{told:?}");
    assert!(told.stdout.contains("asked the router for an introduction"), "{told:?}");
    assert!(told.stdout.contains("gave up: "), "{told:?}");
    place.run(&["punch", LINK, &link, "--listen", "--for", "0.2"]).ok();
}
