//! What the fuzz targets run: functions of arbitrary bytes that panic where an invariant breaks.

pub mod link;
pub mod wire;
