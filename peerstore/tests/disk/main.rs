//! Disks, real and simulated: what a store may rely on, and what it may not.

mod sim;
