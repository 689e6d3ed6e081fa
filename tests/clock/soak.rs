//! Ten minutes of many sessions in a few seconds: nobody goes deaf (compare BoringTun's report 495).

use clock::{Weather, World, frame, path};
use molia_router::drops::Drop;

const MINUTE_MS: u64 = 60_000;

/// Every question is answered, through every rekey; the answers to the last ones are under way.
fn all_answered(world: &World) {
    for client in &world.clients {
        let underway = 1 + 200 / client.period_ms;
        assert!(client.asked > 0 && client.answered + underway >= client.asked);
    }
    assert_eq!(world.sessions.stats().keys_lost, 0);
    assert_eq!((world.sessions.len(), world.ended), (world.clients.len(), 0));
}

#[test]
fn five_hundred_sessions_for_ten_minutes() {
    let mut world = World::new(500, 25, Weather { jitter_ms: 20, ..Weather::default() });
    world.run(10 * MINUTE_MS);
    all_answered(&world);
    assert!(world.drops.is_empty(), "{:?}", world.drops);
    let handshakes = world.sessions.stats().handshakes;
    assert!(handshakes >= 5 * 500, "one every two minutes: {handshakes}");
    assert!(world.silence_ms(3_000) < 3_200);
}

/// Clients without a keepalive of their own, silent for longer than a key lives: they come back as who they were.
#[test]
fn clients_without_keepalives() {
    let mut world = World::new(60, 0, Weather { jitter_ms: 20, ..Weather::default() });
    world.run(15 * MINUTE_MS);
    all_answered(&world);
}

#[test]
fn loss_and_reordering_lose_no_session_for_long() {
    let mut world =
        World::new(120, 25, Weather { loss_permille: 50, jitter_ms: 200, replay_ms: 0 });
    world.run(10 * MINUTE_MS);
    assert!(world.silence_ms(3_000) < 25_000, "silent for {} ms", world.silence_ms(3_000));
    for client in world.clients.iter().filter(|client| client.period_ms <= 3_000) {
        // Nine in ten come through both ways; a lost handshake is repeated after 5 s.
        assert!(
            client.answered * 100 > client.asked * 82,
            "{} of {}",
            client.answered,
            client.asked
        );
    }
    assert_eq!(world.sessions.stats().keys_lost, 0);
    assert_eq!(world.sessions.len(), 120);
}

#[test]
fn replayed_initiations_change_nothing() {
    for replay_ms in [1_000, 40_000] {
        let mut world =
            World::new(60, 25, Weather { jitter_ms: 20, replay_ms, ..Weather::default() });
        world.run(10 * MINUTE_MS);
        all_answered(&world);
        assert!(world.sessions.stats().handshakes_failed > 60 * 10, "they did reach the engine");
    }
}

/// Replays in the rhythm of BoringTun's own timers, while the peer sleeps and the router speaks: had the
/// timers been updated for each, BoringTun would have initiated, given up and cleared the keys.
#[test]
fn a_sleeping_peer_finds_its_session_again() {
    let mut world = World::new(1, 0, Weather::default());
    world.run(1_000);
    world.clients[0].sleep();
    let (session, old) = (world.session(), world.clients[0].recorded());
    let replay = |world: &mut World| {
        world.forget_repeats();
        world.receive(&path(1000), 0, &old)
    };
    let speak = |world: &mut World| {
        let now = world.now();
        world.sessions.seal(now, session, &frame(40, 0), &mut [0; 2048]).map(|(_, len)| len)
    };
    // The first after the peer's last sign of life, an empty message ten seconds after our
    // echo; the last before it shakes hands again, at two minutes.
    for pause_ms in [11_000, 4_000, 91_000] {
        world.run(pause_ms);
        assert_eq!(replay(&mut world), Err(Drop::BadInitiation));
        world.run(1_000);
        assert_eq!(speak(&mut world), Ok(72));
    }
    let data = world.clients[0].seal(&frame(40, 0)).unwrap();
    assert_eq!(data[0], 4);
    assert_eq!(world.receive(&path(0), 0, &data), Ok(()));
    assert_eq!(speak(&mut world), Ok(72));
    assert_eq!(world.sessions.stats().keys_lost, 0);
}
