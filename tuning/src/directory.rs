//! The directory of one-value files.
//!
//! `io/engine` is the file `engine` in the directory `io`. A missing file means the
//! default, anything unknown is an error. Names that begin with a dot are ignored
//! (editors, and the `..data` links by which Kubernetes swaps a ConfigMap), links are
//! followed, and the identity's key file may lie beside the groups.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Source};
use crate::registry::ATTRIBUTES;
use crate::suggest;
use crate::values::Values;

/// Name of the identity's key file, the one file in the directory that is no attribute.
pub const IDENTITY_FILE: &str = "identity.key";
/// Longest file that can be a value.
const FILE_BYTES_MAX: u64 = 4096;
/// Entries of one directory that are looked at; a wrong `--config /` ends early.
const ENTRIES_MAX: usize = 1024;
/// Errors after which the rest is not reported: one wrong directory should not fill the screen.
const ERRORS_MAX: usize = 20;

/// Applies every file below `root`.
pub(crate) fn apply(values: &mut Values, root: &Path, errors: &mut Vec<Error>) {
    visit(values, root, "", errors);
}

fn visit(values: &mut Values, directory: &Path, prefix: &str, errors: &mut Vec<Error>) {
    let names = match names(directory) {
        Ok(names) => names,
        Err(error) => return errors.push(Error::Read { path: directory.to_owned(), error }),
    };
    for name in names {
        if errors.len() >= ERRORS_MAX {
            return;
        }
        if name.starts_with('.') || (prefix.is_empty() && name == IDENTITY_FILE) {
            continue;
        }
        let (file, path) = (directory.join(&name), format!("{prefix}{name}"));
        if is_group(&path) && file.is_dir() {
            visit(values, &file, &format!("{path}/"), errors);
        } else if let Err(error) = apply_file(values, file, path) {
            errors.push(error);
        }
    }
}

/// Whether some attribute lies below `path`; so the walk is as deep as the registry, never deeper.
fn is_group(path: &str) -> bool {
    ATTRIBUTES.iter().any(|attribute| {
        attribute.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
    })
}

/// The names in a directory, sorted, so that errors come in the same order everywhere.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = fs::read_dir(directory)?
        .take(ENTRIES_MAX)
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

fn apply_file(values: &mut Values, file: PathBuf, path: String) -> Result<(), Error> {
    let Some(attribute) = ATTRIBUTES.iter().find(|attribute| attribute.path == path) else {
        let meant = suggest::path(&path).map(str::to_owned);
        return Err(Error::Unknown { source_of: Source::File(file), name: path, meant });
    };
    let text = read(&file)?;
    values.set(attribute, Source::File(file), &text)
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |error| Error::Read { path: path.to_owned(), error };
    let not = |what| Error::NotAFile { path: path.to_owned(), what };
    // Opening a FIFO would wait for its writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(not("not a file; an attribute is a file with one value"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > FILE_BYTES_MAX) {
        return Err(not("longer than a value can be"));
    }
    String::from_utf8(bytes).map_err(|_| not("not text"))
}
