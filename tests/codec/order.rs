//! The order of the checks, over every version, type, flag and session, against
//! the page's sentences written down as a list.

use molia_router::drops::Drop;
use molia_router::wire::{
    Class, Code, Flags, Header, Kind, KindSet, Refusal, Rules, VERSION, Verdict, check,
};

const RESPONSES: [u8; 13] = [2, 4, 6, 8, 10, 12, 17, 19, 25, 27, 33, 36, 255];
const REQUESTS: [u8; 18] = [1, 3, 5, 7, 9, 11, 16, 18, 24, 26, 28, 32, 34, 35, 37, 44, 250, 251];
const IDENTITY: [u8; 17] = [9, 10, 11, 12, 18, 19, 24, 25, 26, 27, 28, 32, 33, 34, 35, 36, 37];
const CHUNKED: [u8; 3] = [6, 8, 9];
const FROM_ROUTER: [u8; 4] = [26, 34, 37, 44];
const NEVER_ANSWERED: [u8; 2] = [250, 251];
const HANDLED: [Kind; 4] = [Kind::Ping, Kind::NegotiateReq, Kind::FindNodeReq, Kind::ReflectReq];
const PLAINTEXT_MAX: usize = 1440;

/// A frame as the checks see it.
#[derive(Clone, Copy, Debug)]
struct Case {
    version: u8,
    header: Header,
    plaintext_bytes: usize,
    identified: bool,
}

/// The first check that fails, in the page's order, as the code that answers.
fn first_failing(case: &Case, handled: &[u8]) -> Option<Code> {
    let Header { kind, flags: Flags(flags), stream, .. } = case.header;
    let stray_stream = (flags & 2 != 0 || stream != 0) && !CHUNKED.contains(&kind);
    let chunk_of_nothing = flags & 2 != 0 && stream == 0;
    let known = RESPONSES.contains(&kind) || REQUESTS.contains(&kind);
    let served = RESPONSES.contains(&kind) || handled.contains(&kind);
    let checks = [
        (case.version != 1, Code::Unsupported),
        (!known || FROM_ROUTER.contains(&kind) && !served, Code::Unsupported),
        (flags & 0b1111_1000 != 0 || stray_stream || chunk_of_nothing, Code::Invalid),
        (IDENTITY.contains(&kind) && !case.identified, Code::Unauthorized),
        (case.plaintext_bytes > PLAINTEXT_MAX, Code::TooLarge),
        (!served, Code::Unsupported),
    ];
    checks.iter().find(|(failed, _)| *failed).map(|(_, code)| *code)
}

fn expected(case: &Case, handled: &[u8]) -> Verdict {
    let id = case.header.kind;
    let response_bit = case.header.flags.0 & 1 == 1;
    if RESPONSES.contains(&id) && !response_bit {
        return Verdict::Ignore(Drop::ResponseWithoutBit);
    }
    if REQUESTS.contains(&id) && response_bit {
        return Verdict::Ignore(Drop::RequestWithResponseBit);
    }
    let fault = first_failing(case, handled);
    if response_bit {
        return match (fault, Kind::try_from(id)) {
            (None, Ok(kind)) => Verdict::Response(kind),
            _ => Verdict::Ignore(Drop::BadResponse),
        };
    }
    let base = Kind::try_from(id).map_or(Class::Coordination, Kind::class);
    let class = base.max(Class::ALL[usize::from(case.header.qos.min(2))]);
    match fault {
        Some(_) if NEVER_ANSWERED.contains(&id) => Verdict::Ignore(Drop::Unanswerable),
        Some(code) => Verdict::Refuse(Refusal { code, detail: id.into(), class }),
        None => Verdict::Request(Kind::try_from(id).unwrap(), class),
    }
}

fn all_cases(mut look: impl FnMut(Case)) {
    for version in [0, 1, 2, 255] {
        for kind in 0..=255 {
            for flags in 0..=255 {
                for (qos, stream) in [(0, 0), (1, 9), (2, 0), (3, 1 << 31), (255, 0)] {
                    let flags = Flags(flags);
                    let header = Header { kind, flags, qos, correlation: 7, stream };
                    for plaintext_bytes in [16, PLAINTEXT_MAX, PLAINTEXT_MAX + 1] {
                        for identified in [false, true] {
                            look(Case { version, header, plaintext_bytes, identified });
                        }
                    }
                }
            }
        }
    }
}

fn judged(rules: &Rules, case: &Case) -> Verdict {
    let frame_bytes = case.plaintext_bytes - 4;
    check(rules, case.version, &case.header, frame_bytes, case.identified)
}

#[test]
fn a_routers_verdicts_are_the_pages() {
    let rules = Rules::of_router(&HANDLED, PLAINTEXT_MAX);
    let handled = HANDLED.map(Kind::id);
    all_cases(|case| assert_eq!(judged(&rules, &case), expected(&case, &handled), "{case:?}"));
}

/// A side that handles every type: nothing hides behind UNSUPPORTED.
#[test]
fn a_full_sides_verdicts_are_the_pages() {
    let rules = Rules { handled: KindSet::of(Kind::ALL), plaintext_max: PLAINTEXT_MAX };
    all_cases(|case| assert_eq!(judged(&rules, &case), expected(&case, &REQUESTS), "{case:?}"));
}

#[test]
fn the_lists_are_all_there_is() {
    let mut ids = [&RESPONSES[..], &REQUESTS].concat();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(Kind::ALL.iter().map(|kind| kind.id())));
    assert_eq!(VERSION, 1);
}

/// A type that is defined but has no handler fails the earlier checks as it will with one.
#[test]
fn an_unserved_type_is_unsupported_last() {
    let rules = Rules::of_router(&HANDLED, PLAINTEXT_MAX);
    let store = |flags, plaintext_bytes, identified| {
        let header = Header { flags: Flags(flags), ..Header::request(Kind::StoreReq, 1) };
        match judged(&rules, &Case { version: 1, header, plaintext_bytes, identified }) {
            Verdict::Refuse(refusal) => Some(refusal.code),
            Verdict::Request(..) | Verdict::Response(_) | Verdict::Ignore(_) => None,
        }
    };
    assert_eq!(store(0x80, 2000, false), Some(Code::Invalid));
    assert_eq!(store(0, 2000, false), Some(Code::Unauthorized));
    assert_eq!(store(0, 2000, true), Some(Code::TooLarge));
    assert_eq!(store(0, 1200, true), Some(Code::Unsupported));
}

/// Whatever carries the bit, and whatever is an ERROR, is never answered.
#[test]
fn nothing_answers_a_response() {
    let rules = Rules { handled: KindSet::of(Kind::ALL), plaintext_max: PLAINTEXT_MAX };
    all_cases(|case| {
        let verdict = judged(&rules, &case);
        let answered = matches!(verdict, Verdict::Request(..) | Verdict::Refuse(_));
        let response = case.header.flags.is_response() || case.header.kind == 255;
        assert!(!(answered && response), "{case:?}: {verdict:?}");
    });
}

#[test]
#[should_panic(expected = "no peer may send it")]
fn a_router_never_handles_what_only_routers_send() {
    let _ = Rules::of_router(&[Kind::Ping, Kind::Goaway], PLAINTEXT_MAX);
}
