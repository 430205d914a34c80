//! The last good table and directory, kept on disk so that a node starts without a controller.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use longspan_proto::control;
use prost::Message;

/// Where they are kept, if anywhere.
pub(crate) struct LastGood {
    dir: Option<PathBuf>,
}

const TABLE: &str = "table.pb";
const DIRECTORY: &str = "directory.pb";

impl LastGood {
    pub fn new(dir: Option<&Path>) -> LastGood {
        LastGood {
            dir: dir.map(Path::to_owned),
        }
    }

    /// What was kept. What cannot be read is as if it were not there, with a line in the log.
    pub fn load(&self) -> (Option<control::Directory>, Option<control::Table>) {
        (self.read(DIRECTORY), self.read(TABLE))
    }

    pub fn keep_table(&self, table: &control::Table) {
        self.write(TABLE, table.encode_to_vec());
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
        tokio::task::spawn_blocking(move || {
            let path = dir.join(name);
            let fresh = dir.join(format!("{name}.new"));
            if let Err(error) = fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, &path)) {
                tracing::warn!(path = %path.display(), %error, "not kept");
            }
        });
    }
}
