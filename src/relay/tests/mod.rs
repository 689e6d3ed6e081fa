//! The relay against models that a reader can check by eye.
