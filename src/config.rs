//! From what the operator wrote to what the modules take.
//!
//! [`load`] gathers the directory of one-value files, the environment and `--set`
//! into [`Values`]; one file here for each module turns them into its configuration,
//! in the units its loop uses. Everything else that belongs to starting up and touches files
//! is here as well: where the files are ([`places`]), the key file ([`key`]) and the
//! directory in which a running router is found ([`runtime`]).
//!
//! Loading writes nothing.

pub mod key;
pub mod places;
pub mod runtime;

mod egress;
mod overlay;
mod port;
mod reflect;
mod relay;
mod settings;
mod shards;
mod store;
mod tunnel;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use tuning::{Applies, Layers, Name, Values};

use crate::client::Link;
use crate::client::link::LinkError;
use crate::identity::Identity;
use crate::limits::WG_OVERHEAD;
use crate::port::SocketConfig;
use crate::router;
use crate::shard::PortConfig;

pub use settings::{LogFormat, Settings};
pub use shards::Placement;
pub use store::Place;

/// What the process finds around it when it starts.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Effective user.
    pub user: u32,
    /// CPUs that the process may use, as many as its control group pays for.
    pub cpus: Vec<usize>,
}

impl Surroundings {
    /// Those of this process.
    pub fn here() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            user: rustix::process::geteuid().as_raw(),
            cpus: shards::usable(),
        }
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        let found = self.variables.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
    }

    /// A variable that names a directory by an absolute path; others are to be ignored.
    fn directory(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }
}

/// What the command line asks for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `--config DIR`.
    pub directory: Option<PathBuf>,
    /// `--identity FILE`.
    pub identity: Option<PathBuf>,
    /// `--set path=value`, in order.
    pub sets: Vec<String>,
}

/// A configuration that fits together.
#[derive(Clone, Debug)]
pub struct Config {
    /// A value for every attribute.
    pub values: Values,
    /// The directory of one-value files, whether it exists or not.
    pub directory: PathBuf,
    /// Where the identity's key file is or is to be.
    pub identity: PathBuf,
    /// The shards.
    pub placement: Placement,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing says where the configuration lies.
    #[error("neither XDG_CONFIG_HOME nor HOME is set: say --config DIR")]
    NoPlace,
    /// `--config` names something that is not there. A new identity and all
    /// defaults are not what somebody wants who mistyped it.
    #[error("--config {}: {error}", .path.display())]
    NoDirectory {
        /// What was named.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// More sessions than the receiver indices of a shard can tell apart.
    #[error(
        "wireguard/sessions_max = {sessions}: with {shards} shards (shards/count) allowed: 1..{most}"
    )]
    TooManySessions {
        /// What was asked for.
        sessions: u64,
        /// What there can be.
        most: u64,
        /// With so many shards.
        shards: u16,
    },
    /// An alternate port that is none.
    #[error("udp/alt_port = {port}: that is the port of udp/listen; another one, or 0 for none")]
    SamePort {
        /// Both.
        port: u16,
    },
    /// A link that is none.
    #[error("reflect/other_router: {error}, allowed: {}", tuning::Kind::Link)]
    OtherRouter {
        /// What is wrong with it.
        error: LinkError,
    },
    /// A setting.
    #[error(transparent)]
    Setting(#[from] tuning::Error),
}

/// Reads everything that configures a router.
///
/// # Errors
/// Everything that is wrong, never an empty list.
pub fn load(request: &Request, surroundings: &Surroundings) -> Result<Config, Vec<Error>> {
    let directory = directory(request, surroundings).map_err(|error| vec![error])?;
    let present = directory.symlink_metadata().is_ok();
    let layers = Layers {
        directory: present.then_some(directory.as_path()),
        variables: &surroundings.variables,
        sets: &request.sets,
    };
    let values = Values::load(&layers)
        .map_err(|errors| errors.into_iter().map(Error::from).collect::<Vec<_>>())?;
    let identity = match &request.identity {
        Some(path) => path.clone(),
        None => places::identity(surroundings, &directory),
    };
    let placement = shards::placement(&values, &surroundings.cpus);
    let checks =
        [shards::check(&values, &placement), port::check(&values), reflect::check(&values)];
    let wrong: Vec<Error> = checks.into_iter().filter_map(Result::err).collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    Ok(Config { values, directory, identity, placement })
}

fn directory(request: &Request, surroundings: &Surroundings) -> Result<PathBuf, Error> {
    let Some(path) = &request.directory else {
        return places::configuration(surroundings).ok_or(Error::NoPlace);
    };
    let no_directory = |error| Error::NoDirectory { path: path.clone(), error };
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(path.clone()),
        Ok(_) => Err(no_directory(io::ErrorKind::NotADirectory.into())),
        Err(error) => Err(no_directory(error)),
    }
}

impl Config {
    /// The configuration of the sockets.
    pub fn socket(&self) -> SocketConfig {
        port::socket(&self.values)
    }

    /// The configuration of the sockets of the alternate port, if there is to be one.
    pub fn alternate(&self) -> Option<SocketConfig> {
        port::alternate(&self.values)
    }

    /// The configuration of a shard's engine.
    pub fn port(&self) -> PortConfig {
        port::port(&self.values)
    }

    /// The configuration of a shard's router, but for the shard's number.
    pub fn router(&self) -> router::Config {
        router::Config {
            tunnel: tunnel::config(&self.values),
            egress: egress::config(&self.values),
            table: overlay::config(&self.values),
            records: overlay::records(&self.values),
            role: relay::role(&self.values),
            relay: relay::config(&self.values, self.placement.count),
            stock: relay::stock(&self.values),
            reflect: self.values.flag(Name::ReflectEnabled),
            stun: self.values.flag(Name::ReflectStun),
            other_router: self.other_router().map(|link| link.peer),
            dscp_control: u8::try_from(self.values.number(Name::UdpDscpControl))
                .expect("the registry keeps it below 64"),
            alternate_port: 0,
            plaintext_bytes_max: self.values.size(Name::PmtuCeiling) - WG_OVERHEAD,
            allow_private: self.values.flag(Name::RelayAllowPrivate),
            ..router::Config::default()
        }
    }

    /// The router that helps this one, if one is named.
    pub fn other_router(&self) -> Option<Link> {
        reflect::other_router(&self.values)
    }

    /// Where the store of `identity` is to be.
    pub fn store_place(&self, surroundings: &Surroundings, identity: &Identity) -> Place {
        store::place(&self.values, surroundings, identity)
    }

    /// How a store's files are written, and how changes get there.
    pub fn store(&self) -> (peerstore::Config, peerstore::journal::Config) {
        (store::files(&self.values), store::journal(&self.values))
    }

    /// What peers are promised if there is a store.
    pub fn keeping(&self) -> router::Keeping {
        store::keeping(&self.values)
    }

    /// Whether the kernel is to deliver datagrams to the shard that they name.
    pub fn steering(&self) -> bool {
        self.values.flag(Name::ShardsSteering)
    }

    /// Everything else.
    pub fn settings(&self) -> Settings {
        Settings::from(&self.values)
    }

    /// Settings that are legal and yet probably not what was wanted, each with its remedy.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for difference in self.values.differences() {
            if difference.attribute.applies == Applies::Reserved {
                let (path, source_of) = (difference.attribute.path, difference.source_of);
                warnings.push(format!("{path} ({source_of}) has no effect in this version"));
            }
        }
        let admin = self.values.address(Name::AdminListen);
        if let Some(admin) = admin.filter(|admin| !admin.ip().is_loopback()) {
            warnings.push(format!(
                "admin/listen = {admin} serves metrics in the clear to whoever reaches it; \
                 127.0.0.1 or a firewall keeps it private"
            ));
        }
        warnings
    }

    /// Whether the directory of one-value files exists.
    pub fn directory_exists(&self) -> bool {
        Path::is_dir(&self.directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use tuning::{ATTRIBUTES, Attribute, Kind};

    /// Values at the edges of an attribute's range, and every choice.
    fn edges(attribute: &Attribute) -> Vec<String> {
        match attribute.kind {
            Kind::Number { min, max, word, .. } => {
                let word = word.map(|word| word.label().to_owned());
                [min.to_string(), max.to_string()].into_iter().chain(word).collect()
            }
            Kind::Flag => vec!["0".into(), "1".into()],
            Kind::Choice(words) => words.iter().map(|word| (*word).to_owned()).collect(),
            Kind::Address { off } => {
                let off = off.then(|| "off".to_owned());
                ["127.0.0.1:0".to_owned()].into_iter().chain(off).collect()
            }
            Kind::Cpus => vec!["auto".into(), "0-3,8".into()],
            Kind::Directory => vec!["auto".into(), "off".into(), "/a/b".into()],
            Kind::Link => vec!["off".into(), link()],
        }
    }

    fn link() -> String {
        let (peer, key) = ("ab".repeat(32), "A".repeat(43));
        format!("molia://{peer}@192.0.2.1:7743?k={key}")
    }

    fn with(sets: Vec<String>) -> Result<Config, Vec<Error>> {
        let values = Values::load(&Layers { sets: &sets, ..Layers::default() });
        let values =
            values.map_err(|errors| errors.into_iter().map(Error::from).collect::<Vec<_>>())?;
        let placement = shards::placement(&values, &[0, 1]);
        Ok(Config { values, directory: "/".into(), identity: "k".into(), placement })
    }

    #[test]
    fn every_allowed_value_becomes_a_configuration() {
        let mut tried = 0;
        for attribute in ATTRIBUTES {
            for value in edges(attribute) {
                // Some edges contradict the defaults of other attributes.
                let Ok(config) = with(vec![format!("{}={value}", attribute.path)]) else {
                    continue;
                };
                let _ = (config.settings(), config.socket(), config.port(), config.router());
                let _ = config.alternate();
                let _ = (config.store(), config.keeping());
                tried += 1;
            }
        }
        assert!(tried > ATTRIBUTES.len(), "{tried}");
    }

    #[test]
    fn attributes_change_something_unless_they_are_reserved() {
        let shape = |config: &Config| {
            let (settings, router) = (config.settings(), config.router());
            let shards = (config.placement.clone(), config.steering());
            let identity = Identity::generate(&mut ChaCha20Rng::seed_from_u64(1));
            let here = Surroundings { variables: Vec::new(), user: 0, cpus: Vec::new() };
            let store = (config.store(), config.keeping(), config.store_place(&here, &identity));
            let port = (config.socket(), config.alternate(), config.port());
            format!("{settings:?} {shards:?} {port:?} {router:?} {store:?}")
        };
        for attribute in ATTRIBUTES {
            // What has one value only cannot change anything.
            if matches!(attribute.kind, Kind::Number { min, max, .. } if min == max) {
                continue;
            }
            // How many ports there are is of no interest while there are none.
            let ports =
                (attribute.path == "relay/stock_ports").then_some("relay/stock_port_first=9");
            let others: Vec<String> = ports.map(str::to_owned).into_iter().collect();
            let default = shape(&with(others.clone()).unwrap());
            let values = edges(attribute).into_iter();
            let set =
                |v| others.iter().cloned().chain([format!("{}={v}", attribute.path)]).collect();
            let configs = values.filter_map(|v: String| with(set(v)).ok());
            let changes = configs.filter(|config| shape(config) != default).count() > 0;
            let reserved = attribute.applies == Applies::Reserved;
            assert!(changes != reserved, "{}: changes something: {changes}", attribute.path);
        }
    }

    #[test]
    fn reserved_attributes_and_public_admin_are_warned_about() {
        assert!(with(vec![]).unwrap().warnings().is_empty());
        let warnings = with(vec!["pmtu/raise_s=60".into(), "admin/listen=[::]:1".into()]);
        let warnings = warnings.unwrap().warnings();
        assert_eq!(warnings[0], "pmtu/raise_s (--set) has no effect in this version");
        assert!(warnings[1].starts_with("admin/listen = [::]:1 serves metrics in the clear"));
    }
}
