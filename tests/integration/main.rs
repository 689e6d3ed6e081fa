//! Real shards, real sockets, real WireGuard: everything once per engine.

mod overlay;
mod protocol;
mod server;
mod sessions;
