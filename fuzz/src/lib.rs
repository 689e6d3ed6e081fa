//! What the fuzz targets run: functions of arbitrary bytes that panic where an invariant breaks.

pub mod link;
pub mod relay;
pub mod router;
mod script;
pub mod sessions;
pub mod store;
pub mod wire;
