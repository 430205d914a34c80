//! The data directory: one backbone at a time, and where others find it.

use std::{
    env,
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    config::jwt_keys::write_private,
    failure::{Failure, Outcome},
};

/// A data directory that is ours until the process ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// `up.json`: how other commands reach a running `up`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// The controller's operator API.
    pub dashboard: String,
    /// For it.
    pub admin_token: String,
    /// The listener for `longspan lab`.
    pub control: String,
    /// The file of users' JWT keys.
    pub jwt_keys: PathBuf,
}

/// `--data-dir`, else `LONGSPAN_DATA_DIR` (both by the caller), else below the state directory of
/// the XDG base directory specification.
pub fn default() -> Outcome<PathBuf> {
    let absolute = |variable| {
        env::var_os(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .map(|state| state.join("longspan"))
        .ok_or_else(|| Failure::usage("neither HOME nor XDG_STATE_HOME is set; name a --data-dir"))
}

impl DataDir {
    /// Takes a directory, making it where it is not there; refused while another `up` has it.
    pub fn take(path: &Path) -> Outcome<DataDir> {
        let failed = |error: std::io::Error| {
            Failure::failed(format!(
                "cannot use the data directory {}: {error}",
                path.display()
            ))
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = lock.read_to_string(&mut pid);
                return Err(Failure::refused(format!(
                    "the data directory {} is in use by another longspan, PID {}; stop that, or name another --data-dir",
                    path.display(),
                    pid.trim()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(DataDir { path, _lock: lock })
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where one node's files are.
    pub fn node(&self, id: &str) -> PathBuf {
        self.path.join("nodes").join(id)
    }

    /// Tells other commands that it runs.
    pub fn announce(&self, running: &Running) -> Outcome {
        let text = serde_json::to_vec_pretty(running).map_err(Failure::failed)?;
        write_private(&self.file("up.json"), &text)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.file("up.json"));
    }
}

/// The `up` that runs in a data directory.
pub fn running(path: &Path) -> Outcome<Running> {
    let file = path.join("up.json");
    let text = fs::read_to_string(&file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::failed(format!(
            "no longspan up runs in {}; start one, or name its --data-dir or another --controller",
            path.display()
        )),
        _ => Failure::failed(format!("cannot read {}: {error}", file.display())),
    })?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::failed(format!("{} is damaged: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn a_busy_directory_is_refused_naming_its_owner() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("data");
        let ours = DataDir::take(&path).expect("ours");
        let refused = DataDir::take(&path).expect_err("busy");
        assert_eq!(refused.kind, Kind::Refused);
        let pid = std::process::id().to_string();
        assert!(refused.to_string().contains(&pid), "{refused}");
        assert!(refused.to_string().contains("data"), "{refused}");
        drop(ours);
        DataDir::take(&path).expect("free again");
    }

    #[test]
    fn others_find_a_running_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let told = running(dir.path()).expect_err("none").to_string();
        assert!(told.contains("no longspan up runs in"), "{told}");
        let ours = DataDir::take(dir.path()).expect("ours");
        let here = Running {
            pid: 1,
            dashboard: "http://127.0.0.1:7480/".into(),
            admin_token: "secret".into(),
            control: "http://127.0.0.1:7490".into(),
            jwt_keys: "keys".into(),
        };
        ours.announce(&here).expect("announced");
        assert_eq!(running(dir.path()).expect("found").admin_token, "secret");
        drop(ours);
        assert!(running(dir.path()).is_err());
    }
}
