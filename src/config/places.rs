//! Where things lie, by the conventions of the system.

use std::path::{Path, PathBuf};

use super::Surroundings;

const NAME: &str = "molia-router";

/// The configuration directory: `/etc/molia-router` for root, else below the user's own.
pub fn configuration(surroundings: &Surroundings) -> Option<PathBuf> {
    if surroundings.user == 0 {
        return Some(Path::new("/etc").join(NAME));
    }
    surroundings
        .directory("XDG_CONFIG_HOME")
        .or_else(|| surroundings.directory("HOME").map(|home| home.join(".config")))
        .map(|base| base.join(NAME))
}

/// The key file: what the service manager hands in as a credential, else in the
/// configuration directory.
pub(super) fn identity(surroundings: &Surroundings, configuration: &Path) -> PathBuf {
    let credential = surroundings
        .directory("CREDENTIALS_DIRECTORY")
        .map(|directory| directory.join(tuning::IDENTITY_FILE))
        .filter(|path| path.symlink_metadata().is_ok());
    credential.unwrap_or_else(|| configuration.join(tuning::IDENTITY_FILE))
}

/// Whether `path` is a credential of the service manager, which guards the directory itself and
/// may show an access list as a group's right to read.
pub(super) fn is_credential(surroundings: &Surroundings, path: &Path) -> bool {
    surroundings
        .directory("CREDENTIALS_DIRECTORY")
        .is_some_and(|directory| path.parent() == Some(directory.as_path()))
}

/// The directory of what a router remembers: the one that the service manager made for it, else
/// `/var/lib/molia-router` for root, else below the user's own.
pub(super) fn state(surroundings: &Surroundings) -> Option<PathBuf> {
    // systemd separates several by colons.
    let given = surroundings.variable("STATE_DIRECTORY").and_then(|list| list.to_str());
    let given = given.and_then(|list| list.split(':').next()).map(PathBuf::from);
    if let Some(given) = given.filter(|path| path.is_absolute()) {
        return Some(given);
    }
    if surroundings.user == 0 {
        return Some(Path::new("/var/lib").join(NAME));
    }
    surroundings
        .directory("XDG_STATE_HOME")
        .or_else(|| surroundings.directory("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join(NAME))
}

/// Directories for the files of a running router, the best first.
///
/// A router uses the first in which it may write; whoever looks for routers looks in all.
/// One that the service manager made for it is the only one.
pub fn runtime(surroundings: &Surroundings) -> Vec<PathBuf> {
    // systemd separates several by colons.
    let given = surroundings.variable("RUNTIME_DIRECTORY").and_then(|list| list.to_str());
    let given = given.and_then(|list| list.split(':').next()).map(PathBuf::from);
    if let Some(given) = given.filter(|path| path.is_absolute()) {
        return vec![given];
    }
    let system = Some(Path::new("/run").join(NAME));
    let session = surroundings.directory("XDG_RUNTIME_DIR").map(|base| base.join(NAME));
    let own = format!("{NAME}-{}", surroundings.user);
    let shared = ["/tmp", "/dev/shm"].map(|base| Path::new(base).join(&own));
    let (first, second) =
        if surroundings.user == 0 { (system, session) } else { (session, system) };
    first.into_iter().chain(second).chain(shared).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(user: u32, variables: &[(&str, &str)]) -> Surroundings {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Surroundings { variables, user, cpus: Vec::new() }
    }

    #[test]
    fn configuration_is_where_the_system_keeps_it() {
        let home = ("HOME", "/users/ann");
        let place = |surroundings| configuration(&surroundings).map(|p| p.display().to_string());
        assert_eq!(place(with(0, &[home])).unwrap(), "/etc/molia-router");
        assert_eq!(place(with(1000, &[home])).unwrap(), "/users/ann/.config/molia-router");
        let xdg = ("XDG_CONFIG_HOME", "/cfg");
        assert_eq!(place(with(1000, &[home, xdg])).unwrap(), "/cfg/molia-router");
        // The specification has relative paths ignored.
        let relative = ("XDG_CONFIG_HOME", "cfg");
        assert_eq!(
            place(with(1000, &[home, relative])).unwrap(),
            "/users/ann/.config/molia-router"
        );
        assert_eq!(place(with(1000, &[])), None);
    }

    #[test]
    fn the_service_managers_runtime_directory_comes_first() {
        let given = ("RUNTIME_DIRECTORY", "/run/molia-router:/run/other");
        let service = runtime(&with(996, &[given]));
        assert_eq!(service, [Path::new("/run/molia-router")]);
        let user = runtime(&with(1000, &[("XDG_RUNTIME_DIR", "/run/user/1000")]));
        assert_eq!(user[0], Path::new("/run/user/1000/molia-router"));
        assert!(user.contains(&PathBuf::from("/run/molia-router")), "root's routers are seen too");
        assert_eq!(runtime(&with(0, &[]))[0], Path::new("/run/molia-router"));
    }

    #[test]
    fn a_credential_counts_only_if_it_is_there() {
        let place = std::env::temp_dir().join(format!("molia-credentials-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let surroundings = with(996, &[("CREDENTIALS_DIRECTORY", place.to_str().unwrap())]);
        let configured = Path::new("/etc/molia-router/identity.key");
        assert_eq!(identity(&surroundings, Path::new("/etc/molia-router")), configured);
        std::fs::write(place.join("identity.key"), "x").unwrap();
        let chosen = identity(&surroundings, Path::new("/etc/molia-router"));
        std::fs::remove_dir_all(&place).unwrap();
        assert_eq!(chosen, place.join("identity.key"));
        assert!(is_credential(&surroundings, &chosen));
        assert!(!is_credential(&surroundings, configured));
    }
}
