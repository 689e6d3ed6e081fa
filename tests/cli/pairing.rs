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

#[test]
fn a_consent_is_signed_for_whom_and_as_long_as_it_says() {
    let place = Place::new("consent");
    let made = place.run(&["keygen", "--out", "key", "--json"]).ok().json();
    let peer = "ab".repeat(32);
    let sign = |args: &[&str]| place.run(&[&["consent", "--identity", "key"], args].concat());
    let told = sign(&["--for", &peer, "--scope", "relay", "--minutes", "30", "--json"]).ok().json();
    assert_eq!((&told["issuer"], &told["subject"]), (&made["peer_id"], &peer.as_str().into()));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let left = told["expires_unix_s"].as_u64().unwrap() - now;
    assert!((1790..=1800).contains(&left), "{left}");
    let text = sign(&["--for", "anyone", "--scope", "punch"]).ok().stdout;
    assert!(text.trim().len() > 100 && text.lines().count() == 1, "{text}");
    for wrong in [
        &["--scope", "relay"][..],
        &["--for", "abc", "--scope", "relay"],
        &["--for", &peer, "--scope", "all"],
        &["--for", &peer, "--scope", "relay", "--minutes", "31"],
    ] {
        assert_eq!(sign(wrong).code, 64, "{wrong:?}");
    }
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(place.path("key"), readable).unwrap();
    assert_eq!(sign(&["--for", "anyone", "--scope", "relay"]).code, 77);
}

#[test]
fn two_ends_of_a_tunnel_get_a_port_each() {
    let place = Place::new("relay-ports");
    let allowed = ["--set", "relay/allow_private=1", "--set", "relay/stock_port_first=0"];
    let ports = ["--set", "relay/stock_port_first=27300", "--set", "relay/stock_ports=8"];
    let [one, other] = ["one", "other"].map(|name| {
        let made = place.run(&["keygen", "--out", name, "--json"]).ok().json();
        made["peer_id"].as_str().unwrap().to_owned()
    });
    let consent = |from: &str, to: &str| {
        let signed = ["consent", "--identity", from, "--for", to, "--scope", "relay"];
        place.run(&signed).ok().stdout.trim().to_owned()
    };
    let consents = [consent("other", &one), consent("one", &other)];
    let ask = |link: &str, who: &str, whom: &str, rest: &[&str]| {
        let args = ["relay", link, whom, "--identity", who];
        place.run(&[&args[..], rest].concat())
    };
    {
        let router = Router::start(&place, &allowed);
        let told = ask(router.line("link"), "one", &other, &["--consent", &consents[0]]);
        assert_eq!(told.code, 69, "no ports are given here: {told:?}");
    }
    let router = Router::start(&place, &[&allowed[..2], &ports[..]].concat());
    let link = router.line("link").to_owned();
    assert_eq!(ask(&link, "one", &other, &["--consent", "a token"]).code, 64);
    let alone = ask(&link, "one", &other, &["--consent", &consents[0], "--wait", "1s"]);
    assert_eq!(alone.code, 69, "the other one is not there: {alone:?}");
    let told = std::thread::scope(|scope| {
        let [a, b] = [("one", &other, &consents[0]), ("other", &one, &consents[1])].map(
            |(who, whom, consent)| {
                let (link, ask) = (&link, &ask);
                scope.spawn(move || ask(link, who, whom, &["--consent", consent, "--json"]))
            },
        );
        [a.join(), b.join()].map(|told| told.unwrap().ok().json())
    });
    let endpoints = told.each_ref().map(|it| it["endpoint"].as_str().unwrap());
    assert_ne!(endpoints[0], endpoints[1]);
    let ours = |endpoint: &str| (27_300..27_308).contains(&port(endpoint));
    assert!(endpoints.iter().all(|endpoint| ours(endpoint)), "{endpoints:?}");
    // It is kept, and told without another consent.
    let again = ask(&link, "one", &other, &[]).ok().stdout;
    let line = again.lines().next().unwrap();
    assert_eq!(line, format!("Endpoint = {}", endpoints[0]), "{again}");
    assert!(again.contains("# MTU = 1200 at most"), "{again}");
}

fn port(endpoint: &str) -> u16 {
    endpoint.parse::<std::net::SocketAddr>().unwrap().port()
}
