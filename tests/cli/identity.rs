//! Making, showing and guarding the identity.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::place::{Outcome, Place};

#[test]
fn keygen_makes_a_private_file_once() {
    let place = Place::new("keygen");
    let made = place.run(&["keygen", "--out", "key", "--json"]).ok().json();
    assert_eq!(made["file"], "key");
    assert_eq!(made["peer_id"].as_str().unwrap().len(), 64);
    assert_eq!(made["wireguard_key"].as_str().unwrap().len(), 44);
    let key = place.path("key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
    let before = fs::read(&key).unwrap();
    place
        .run(&["keygen", "--out", "key"])
        .fails(73, "key: exists already and is never overwritten: move it away first");
    assert_eq!(fs::read(&key).unwrap(), before);
}

#[test]
fn keygen_says_why_it_cannot_write() {
    let place = Place::new("keygen-fails");
    place.run(&["keygen", "--out", "no/such/key"]).fails(
        73,
        "no/such/key: the identity cannot be written: No such file or directory (os error 2)",
    );
    assert!(place.files().is_empty());
}

#[test]
fn two_identities_differ_and_secrets_are_not_printed() {
    let place = Place::new("secrets");
    let first = place.run(&["keygen", "--out", "a"]).ok().stdout;
    let second = place.run(&["keygen", "--out", "b"]).ok().stdout;
    assert_ne!(first.lines().nth(1), second.lines().nth(1));
    let file = fs::read_to_string(place.path("a")).unwrap();
    let secrets: Vec<&str> = file
        .lines()
        .filter(|line| line.starts_with("ed25519 ") || line.starts_with("x25519 "))
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    assert_eq!(secrets.len(), 2);
    assert!(secrets.iter().all(|secret| secret.len() == 44 && !first.contains(secret)));
}

#[test]
fn id_prints_the_link_of_the_identity() {
    let place = Place::new("id");
    let made = place.run(&["keygen", "--out", "config/identity.key", "--json"]).ok().json();
    let args = ["--host", "router.example.org", "--set", "udp/listen=0.0.0.0:7000"];
    let text = place.configured("id", &args).ok().stdout;
    let peer_id = made["peer_id"].as_str().unwrap();
    let link = format!("molia://{peer_id}@router.example.org:7000?k=");
    assert!(text.contains(&link), "{text}");
    let shown = place.configured("id", &[&args[..], &["--json"]].concat()).ok().json();
    assert_eq!(
        (&shown["peer_id"], &shown["wireguard_key"]),
        (&made["peer_id"], &made["wireguard_key"])
    );
    assert!(shown["link"].as_str().unwrap().starts_with(&link));
    let elsewhere =
        place.run(&["id", "--identity", "config/identity.key", "--config", "run", "--json"]);
    assert_eq!(elsewhere.ok().json()["peer_id"], made["peer_id"]);
}

#[test]
fn id_without_identity_or_host_says_so() {
    let place = Place::new("id-none");
    place.configured("id", &[]).fails(
        77,
        "config/identity.key: no identity yet; `molia-router keygen` or `run` makes one",
    );
    place.run(&["keygen", "--out", "config/identity.key"]).ok();
    assert_eq!(place.configured("id", &["--host", "a b"]).code, 64);
    assert_eq!(place.configured("id", &["--set", "udp/listen=[::]:0"]).code, 78);
}

#[test]
fn a_key_that_others_can_read_is_refused_everywhere() {
    let place = Place::new("mode");
    place.run(&["keygen", "--out", "config/identity.key"]).ok();
    place.chmod("identity.key", 0o640);
    for command in ["id", "check"] {
        place.configured(command, &[]).fails(
            77,
            "config/identity.key: mode 0640 lets others read the router's secrets: \
             chmod 600 config/identity.key",
        );
    }
    place.chmod("identity.key", 0o600);
    place.configured("id", &[]).ok();
}

#[test]
fn a_broken_key_is_refused_without_echoing_it() {
    let place = Place::new("broken");
    place.write("identity.key", "molia-identity 1\ned25519 TopSecret\n");
    place.chmod("identity.key", 0o600);
    let outcome = place.configured("check", &[]);
    assert_eq!(outcome.code, 77);
    assert!(outcome.stderr.contains("config/identity.key: not a key file: "), "{outcome:?}");
    assert!(!outcome.stderr.contains("TopSecret") && !outcome.stdout.contains("TopSecret"));
}

#[test]
fn a_credential_of_the_service_manager_comes_before_the_directory() {
    let place = Place::new("credential");
    place.run(&["keygen", "--out", "config/identity.key"]).ok();
    let given = place.run(&["keygen", "--out", "run/identity.key", "--json"]).ok().json();
    // As systemd shows a credential that an access list lets the service read.
    fs::set_permissions(place.path("run/identity.key"), fs::Permissions::from_mode(0o440)).unwrap();
    let mut command = place.command(&["id", "--config", "config", "--json"]);
    command.env("CREDENTIALS_DIRECTORY", place.path("run"));
    assert_eq!(Outcome::of(&mut command).ok().json()["peer_id"], given["peer_id"]);
}
