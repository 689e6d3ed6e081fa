//! `keygen`: makes an identity.

use std::path::PathBuf;

use serde_json::json;

use crate::config::key::{self, KeyError};
use crate::config::{Surroundings, places};

use super::{Exit, Failure, output};

/// Create an identity: a key file that only its owner can read
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to; never overwrites [default: identity.key in the configuration directory]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Creates the file and prints what is public of it.
///
/// # Errors
/// If the file exists or cannot be written.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (path, directories) = match &args.out {
        Some(path) => (path.clone(), false),
        None => (default_path()?, true),
    };
    let identity =
        key::generate().map_err(|error| Failure::io("the system's randomness", &error))?;
    key::create(&path, &identity, directories).map_err(failure)?;
    let (peer_id, key) = (identity.peer_id(), output::base64(&identity.wg_key().0));
    if args.json {
        let path = path.display().to_string();
        let document = json!({"file": path, "peer_id": peer_id.to_string(), "wireguard_key": key});
        return output::json(&document);
    }
    output::line(format_args!(
        "file           {}\npeer id        {peer_id}\nWireGuard key  {key}",
        path.display()
    ))
}

fn default_path() -> Result<PathBuf, Failure> {
    places::configuration(&Surroundings::here())
        .map(|directory| directory.join(tuning::IDENTITY_FILE))
        .ok_or_else(|| {
            Failure::new(Exit::Usage, "neither XDG_CONFIG_HOME nor HOME is set: say --out FILE")
        })
}

/// The failure that an unusable key file is.
pub(super) fn failure(error: KeyError) -> Failure {
    let exit = match &error {
        KeyError::Exists { .. } | KeyError::Write { .. } => Exit::CannotCreate,
        KeyError::Read { .. }
        | KeyError::Mode { .. }
        | KeyError::Owner { .. }
        | KeyError::NotAKey { .. } => Exit::Permission,
    };
    Failure::new(exit, error)
}
