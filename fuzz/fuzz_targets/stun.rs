#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| molia_router_fuzz::wire::stun(data));
