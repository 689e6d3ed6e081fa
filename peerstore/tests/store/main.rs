//! Stores on a disk that fails: power cuts, refusals, damage, and another number of shards.

mod crash;
mod model;
mod owner;
mod saboteur;
mod workload;
