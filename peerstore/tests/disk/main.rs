//! Disks, real and simulated: what a store may rely on, and what it may not.

mod adversary;
mod directory;
mod full;
mod names;
mod real;
mod sim;
mod temp;
