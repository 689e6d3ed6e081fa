//! The options by which every command that needs the configuration takes it.

use std::path::PathBuf;

use crate::config::{self, Config, Request, Surroundings};
use crate::identity::Identity;

use super::{Exit, Failure};

/// Where settings come from.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Directory of one-value files [default: /etc/molia-router, for users ~/.config/molia-router]
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// Key file of the identity [default: identity.key in the configuration directory]
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Set an attribute, e.g. io/engine=mmsg; repeatable (--help-attributes lists them)
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

impl Args {
    /// What the options ask for.
    pub fn request(&self) -> Request {
        Request {
            directory: self.config.clone(),
            identity: self.identity.clone(),
            sets: self.set.clone(),
        }
    }

    /// The configuration.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn load(&self, surroundings: &Surroundings) -> Result<Config, Failure> {
        config::load(&self.request(), surroundings).map_err(|errors| {
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            Failure::new(Exit::Config, first + &more(errors.len()))
        })
    }
}

fn more(errors: usize) -> String {
    match errors {
        0 | 1 => String::new(),
        n => format!(" ({} more; `molia-router check` lists them all)", n - 1),
    }
}

/// The identity of a configuration, if it has one already.
///
/// # Errors
/// If its key file cannot be used.
pub fn identity(config: &Config, surroundings: &Surroundings) -> Result<Option<Identity>, Failure> {
    config::key::load(config, surroundings).map_err(|error| Failure::new(Exit::Permission, error))
}
