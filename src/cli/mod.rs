//! The command line: one file a subcommand, each with `Args` and `run`.
