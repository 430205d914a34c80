//! The last good table and directory, kept on disk so that a node starts without a controller.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use longspan_proto::control;
use longspan_topology::{encoding, routes::Routes};
use prost::Message;

/// Where they are kept, if anywhere.
pub(crate) struct LastGood {
    dir: Option<PathBuf>,
    waiting: Arc<Waiting>,
}

/// What is to be written. A newer one takes the place of one that waits, so at most one waits a
/// file, and the newest is written last.
#[derive(Default)]
struct Waiting {
    newest: Mutex<HashMap<&'static str, Vec<u8>>>,
    writing: Mutex<()>,
}

/// Not `table.pb`: those spelled names out, and would read as empty tables.
const TABLE: &str = "routes.pb";
const DIRECTORY: &str = "directory.pb";

impl LastGood {
    pub fn new(dir: Option<&Path>) -> LastGood {
        LastGood {
            dir: dir.map(Path::to_owned),
            waiting: Arc::default(),
        }
    }

    /// What was kept. What cannot be read is as if it were not there, with a line in the log.
    pub fn load(&self) -> (Option<control::Directory>, Option<control::Table>) {
        (self.read(DIRECTORY), self.read(TABLE))
    }

    /// Always whole: what was told may have been a change.
    pub fn keep_table(&self, routes: &Routes) {
        self.write(TABLE, encoding::whole(routes).encode_to_vec());
    }

    pub fn keep_directory(&self, directory: &control::Directory) {
        self.write(DIRECTORY, directory.encode_to_vec());
    }

    fn read<M: Message + Default>(&self, name: &str) -> Option<M> {
        let path = self.dir.as_ref()?.join(name);
        let read = fs::read(&path).and_then(|bytes| {
            M::decode(bytes.as_slice()).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
        });
        match read {
            Ok(message) => Some(message),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "not used");
                None
            }
        }
    }

    /// Replaces the file as a whole, so that a crash leaves the old one or the new one.
    fn write(&self, name: &'static str, bytes: Vec<u8>) {
        let Some(dir) = self.dir.clone() else { return };
        let waiting = self.waiting.clone();
        let newest = |waiting: &Waiting| {
            waiting
                .newest
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(name)
        };
        let mut before = waiting
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if before.insert(name, bytes).is_some() {
            return;
        }
        drop(before);
        tokio::task::spawn_blocking(move || {
            let _one_at_a_time = waiting
                .writing
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let Some(bytes) = newest(&waiting) else {
                return;
            };
            let path = dir.join(name);
            let fresh = dir.join(format!("{name}.new"));
            if let Err(error) = fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, &path)) {
                tracing::warn!(path = %path.display(), %error, "not kept");
            }
        });
    }
}
