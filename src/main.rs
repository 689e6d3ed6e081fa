//! `molia-router`: see `molia-router --help`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    molia_router::cli::main(std::env::args_os())
}
