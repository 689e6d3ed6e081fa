//! Who gets a channel, and how it ends.

use std::time::Duration;

use molia_router::wire::body::{RelayAllocReq, RelayClose};
use molia_router::wire::{Code, Kind};

use crate::known::{channel, config, each_size, join};
use crate::support::Bench;

#[test]
fn a_channel_is_given_to_both_legs() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
        assert_eq!((of_a.other, of_b.other), (b.id(), a.id()));
        assert_ne!(of_a.channel.id, of_b.channel.id);

        // Asked for again, by either side and now without a consent, it is the same one.
        for (asking, other, leg) in [(&mut a, b.id(), of_a), (&mut b, of_b.other, of_b)] {
            let told = asking.allocate(&mut bench, other, &[]);
            let [(to, answer)] = &told[..] else { panic!("no new offer, not {}", told.len()) };
            assert_eq!(*to, asking.peer.path().peer);
            let (header, body) = asking.peer.frame(answer);
            assert_eq!(header.kind, Kind::RelayAllocResp.id());
            assert_eq!(crate::known::Leg::of(&body), leg);
        }
    });
}

#[test]
fn nobody_gets_a_channel_without_a_consent() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let b = join(&mut bench, 2, "2.2.2.2:5000");
        let c = join(&mut bench, 3, "3.3.3.3:5000");
        let (a_id, b_id, c_id) = (a.id(), b.id(), c.id());
        let refused = [
            (b_id, Vec::new(), Code::Unauthorized),
            (b_id, c.consent(Some(a_id)), Code::Unauthorized),
            (b_id, b.consent(Some(c_id)), Code::Invalid),
            (b_id, vec![1; 40], Code::Unauthorized),
            (a_id, Vec::new(), Code::Invalid),
            (molia_router::ids::PeerId([9; 32]), Vec::new(), Code::NotFound),
        ];
        for (other, consent, code) in refused {
            let told = a.allocate(&mut bench, other, &consent);
            assert_eq!(a.refusal(&told), code);
        }
        let stock = RelayAllocReq {
            peer: b_id,
            consent: &b.consent(None),
            want_bps: 0,
            channel: 0,
            stock_wireguard: true,
        };
        let told = a.request(&mut bench, Kind::RelayAllocReq, 5, |body| stock.write(body));
        assert_eq!(a.refusal(&told), Code::Unsupported, "no ports are set aside");
        assert_eq!(channels(&bench), 0);
    });
}

#[test]
fn nothing_is_relayed_to_an_address_that_is_nobodys_business() {
    for address in ["10.0.0.1:4000", "127.0.0.1:4000", "9.9.9.9:4000", "198.18.0.1:4000"] {
        let mut bench = Bench::sharded(config(), 3);
        let mut a = join(&mut bench, 1, address);
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let consent = b.consent(None);
        let told = a.allocate(&mut bench, b.id(), &consent);
        assert_eq!(a.refusal(&told), Code::Unauthorized, "{address} asks");
        let consent = a.consent(None);
        let told = b.allocate(&mut bench, a.id(), &consent);
        assert_eq!(b.refusal(&told), Code::Unauthorized, "{address} is asked for");
    }
}

#[test]
fn who_closes_a_channel_is_answered_and_the_other_leg_is_told() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
        let close = |channel| RelayClose { channel, reason: 1 };
        let told =
            b.request(&mut bench, Kind::RelayClose, 8, |body| close(of_a.channel.id).write(body));
        assert_eq!(b.refusal(&told), Code::NotFound, "the other leg's");
        let told =
            b.request(&mut bench, Kind::RelayClose, 9, |body| close(of_b.channel.id).write(body));
        assert_eq!(told.len(), 2);
        for (to, bytes) in &told {
            let (peer, kind, leg) = if *to == b.peer.path().peer {
                (&mut b, Kind::RelayClosed, of_b)
            } else {
                (&mut a, Kind::RelayClose, of_a)
            };
            let (header, body) = peer.peer.frame(bytes);
            assert_eq!(header.kind, kind.id());
            let said = RelayClose::read(&body).unwrap();
            assert_eq!((said.channel, said.reason), (leg.channel.id, 1));
        }
        let told =
            b.request(&mut bench, Kind::RelayClose, 10, |body| close(of_b.channel.id).write(body));
        assert_eq!(b.refusal(&told), Code::NotFound);
    });
}

#[test]
fn a_silent_channel_is_closed_and_both_are_told() {
    let mut config = config();
    config.relay.idle = Duration::from_secs(20);
    let mut bench = Bench::with(config);
    let mut a = join(&mut bench, 1, "1.1.1.1:4000");
    let mut b = join(&mut bench, 2, "2.2.2.2:5000");
    let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
    bench.advance(19_000_000_000);
    bench.due();
    assert_eq!(channels(&bench), 1);
    bench.advance(2_000_000_000);
    let ended = bench.due();
    let mut reasons = Vec::new();
    for bytes in &ended {
        for (peer, leg) in [(&mut a, of_a), (&mut b, of_b)] {
            if let Some((header, body)) = peer.peer.try_frame(bytes)
                && header.kind == Kind::RelayClose.id()
            {
                let said = RelayClose::read(&body).unwrap();
                assert_eq!(said.channel, leg.channel.id);
                reasons.push(said.reason);
            }
        }
    }
    assert_eq!(reasons, [2, 2]);
    assert_eq!(channels(&bench), 0);
}

fn channels(bench: &Bench) -> usize {
    bench.shards().map(|shard| shard.relay().stats().channels).sum()
}
