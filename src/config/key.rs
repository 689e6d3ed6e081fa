//! The file with the identity's secrets: read by nobody but its owner, written once.
//!
//! It is refused if others could read it, created with mode 0600 by an exclusive
//! create, and never overwritten: losing a router's identity means that all its
//! links are void.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

use crate::identity::{BadKeyFile, Identity};

use super::{Config, Surroundings, places};

/// A key file is a few lines.
const BYTES_MAX: u64 = 4096;
/// What a group or others may do.
const GROUP_AND_OTHERS: u32 = 0o077;
const OTHERS: u32 = 0o007;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It, or the way to it, cannot be read.
    #[error("{}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others may read it.
    #[error("{}: mode {mode:04o} lets others read the router's secrets: chmod 600 {}", .path.display(), .path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to someone else, who could replace it.
    #[error("{}: belongs to user {owner}, not to us (user {user}): chown {user} {}", .path.display(), .path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// It is a directory, a pipe, too long or not text.
    #[error("{}: not a key file: {what}", .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is one already.
    #[error("{}: exists already and is never overwritten: move it away first", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be created.
    #[error("{}: the identity cannot be written: {error}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// The identity in the key file of `config`; `None` if there is no such file.
///
/// # Errors
/// If it cannot be read, others can read it, or it is no key file.
pub fn load(config: &Config, surroundings: &Surroundings) -> Result<Option<Identity>, KeyError> {
    let path = &config.identity;
    // The service manager shows its access list as the group's bits.
    let credential = places::is_credential(surroundings, path);
    let forbidden = if credential { OTHERS } else { GROUP_AND_OTHERS };
    let Some(text) = read_private(path, forbidden, surroundings.user)? else { return Ok(None) };
    let not = |error: BadKeyFile| KeyError::NotAKey { path: path.clone(), what: error.to_string() };
    Identity::decode(&text).map(Some).map_err(not)
}

/// The identity in the key file at `path`, wherever a client keeps one.
///
/// # Errors
/// If it cannot be read, others can read it, or it is no key file.
pub fn open(path: &Path, surroundings: &Surroundings) -> Result<Identity, KeyError> {
    let missing =
        || KeyError::Read { path: path.to_owned(), error: io::ErrorKind::NotFound.into() };
    let text = read_private(path, GROUP_AND_OTHERS, surroundings.user)?.ok_or_else(missing)?;
    Identity::decode(&text)
        .map_err(|error| KeyError::NotAKey { path: path.to_owned(), what: error.to_string() })
}

/// A new identity, from the system's randomness.
///
/// # Errors
/// If the system has none.
pub fn generate() -> io::Result<Identity> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::getrandom(seed.as_mut_slice())
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Identity::generate(&mut ChaCha20Rng::from_seed(*seed)))
}

/// Writes a new key file that only its owner can read, and makes sure that it lasts.
///
/// `directories` says to create what is missing on the way.
///
/// # Errors
/// If there is such a file, or it cannot be written; a half-written one is removed.
pub fn create(path: &Path, identity: &Identity, directories: bool) -> Result<(), KeyError> {
    create_private(path, &identity.encode(), directories)
}

fn create_private(path: &Path, text: &str, directories: bool) -> Result<(), KeyError> {
    let failed = |error: io::Error| match error.kind() == io::ErrorKind::AlreadyExists {
        true => KeyError::Exists { path: path.to_owned() },
        false => KeyError::Write { path: path.to_owned(), error },
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    if directories {
        fs::create_dir_all(parent)
            .map_err(|error| KeyError::Write { path: path.to_owned(), error })?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    write_durably(&mut file.map_err(failed)?, text, parent).map_err(|error| {
        let _ = fs::remove_file(path);
        failed(error)
    })
}

fn write_durably(file: &mut File, text: &str, parent: &Path) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    File::open(parent)?.sync_all()
}

fn read_private(
    path: &Path,
    forbidden: u32,
    user: u32,
) -> Result<Option<Zeroizing<String>>, KeyError> {
    let failed = |error| KeyError::Read { path: path.to_owned(), error };
    let not = |what: &str| KeyError::NotAKey { path: path.to_owned(), what: what.to_owned() };
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(not("it is no regular file")),
        // A link to nowhere is a mistake, not a first run.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    }
    let file = File::open(path).map_err(failed)?;
    // Of what was opened, not of what the name means by now.
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & forbidden != 0 {
        return Err(KeyError::Mode { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    let owner = metadata.uid();
    if owner != user && owner != 0 {
        return Err(KeyError::Owner { path: path.to_owned(), owner, user });
    }
    let mut text = Zeroizing::new(String::new());
    match file.take(BYTES_MAX + 1).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(not("it is no text")),
        Err(error) => Err(failed(error)),
        Ok(_) if u64::try_from(text.len()).is_ok_and(|len| len > BYTES_MAX) => {
            Err(not("it is too long"))
        }
        Ok(_) => Ok(Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("molia-key-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn user() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn read_it(path: &Path) -> Result<Option<String>, String> {
        let text = read_private(path, GROUP_AND_OTHERS, user());
        text.map(|text| text.map(|text| text.to_string())).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_created_reads_back_and_is_private() {
        let place = Directory::new("create");
        let path = place.0.join("a/b/identity.key");
        assert_eq!(read_it(&path), Ok(None));
        create_private(&path, "secret\n", true).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(read_it(&path), Ok(Some("secret\n".into())));
    }

    #[test]
    fn an_identity_survives_its_file() {
        let place = Directory::new("identity");
        let (directory, identity) = (place.0.clone(), place.0.join("identity.key"));
        let placement = crate::config::Placement { count: 1, cpus: Vec::new() };
        let config = Config { values: tuning::Values::default(), directory, identity, placement };
        let surroundings = Surroundings { user: user(), ..Surroundings::default() };
        assert!(load(&config, &surroundings).unwrap().is_none());
        let made = generate().unwrap();
        create(&config.identity, &made, false).unwrap();
        let read = load(&config, &surroundings).unwrap().unwrap();
        assert_eq!((read.peer_id(), read.wg_key()), (made.peer_id(), made.wg_key()));
        fs::write(&config.identity, "nonsense").unwrap();
        let error = load(&config, &surroundings).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("identity.key: not a key file: "), "{error}");
    }

    #[test]
    fn nothing_is_ever_overwritten() {
        let place = Directory::new("exists");
        let path = place.0.join("identity.key");
        create_private(&path, "first", false).unwrap();
        assert!(matches!(create_private(&path, "second", false), Err(KeyError::Exists { .. })));
        assert_eq!(read_it(&path), Ok(Some("first".into())));
        // Not even through a link that leads nowhere yet.
        let link = place.0.join("link");
        std::os::unix::fs::symlink("elsewhere", &link).unwrap();
        assert!(matches!(create_private(&link, "x", false), Err(KeyError::Exists { .. })));
        assert!(!place.0.join("elsewhere").exists());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let place = Directory::new("mode");
        let path = place.0.join("identity.key");
        create_private(&path, "x", false).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let (error, shown) = (read_it(&path).unwrap_err(), path.display());
            let wanted = format!(
                "{shown}: mode {mode:04o} lets others read the router's secrets: chmod 600 {shown}"
            );
            assert_eq!(error, wanted);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        assert!(read_private(&path, OTHERS, user()).unwrap().is_some(), "a credential");
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        let place = Directory::new("kinds");
        let error = read_it(&place.0).unwrap_err();
        assert!(error.ends_with("not a key file: it is no regular file"), "{error}");
        let path = place.0.join("long");
        create_private(&path, &"x".repeat(5000), false).unwrap();
        assert!(read_it(&path).unwrap_err().ends_with("it is too long"));
        let link = place.0.join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(read_it(&link).unwrap_err().contains("No such file"));
    }

    #[test]
    fn a_strangers_key_is_refused() {
        let place = Directory::new("owner");
        let path = place.0.join("identity.key");
        create_private(&path, "x", false).unwrap();
        let owner = path.metadata().unwrap().uid();
        // Root's files are trusted by everybody, so pretend only where that is not the owner.
        let read = read_private(&path, GROUP_AND_OTHERS, owner + 1);
        assert_eq!(read.is_err(), owner != 0);
    }
}
