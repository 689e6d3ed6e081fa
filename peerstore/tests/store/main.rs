//! Stores on a disk that fails: power cuts, refusals, damage, and another number of shards.

mod crash;
mod damage;
mod divide;
mod faults;
mod hostile;
mod inspect;
mod model;
mod owner;
mod rules;
mod saboteur;
mod workload;
