//! The file of users' JWT keys: TOML, `id = "secret"`, readable by its owner only.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use aws_lc_rs::rand;
use longspan_proto::ids::NameError;

use crate::failure::{Failure, Outcome};

/// Bytes of a new secret: 256 bits, the hash's own length (RFC 7518 §3.2), as 64 hex digits.
const SECRET: usize = 32;

/// Keys in one file; more are refused. Every one may be tried on a token that names none.
pub const MAX_KEYS: usize = 64;

/// Secrets by key id. A file that is not there holds none.
pub fn read(file: &Path) -> Outcome<BTreeMap<String, String>> {
    let failure = |why: &dyn std::fmt::Display| {
        Failure::failed(format!(
            "cannot use the JWT keys in {}: {why}",
            file.display()
        ))
    };
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failure(&error)),
    };
    let mode = fs::metadata(file)
        .map_err(|error| failure(&error))?
        .permissions()
        .mode();
    if mode & 0o007 != 0 {
        return Err(failure(&format!(
            "everybody on this machine may read it; run chmod o-rwx {}",
            file.display()
        )));
    }
    let keys: BTreeMap<String, String> =
        toml::from_str(&text).map_err(|error| failure(&error.message()))?;
    if keys.len() > MAX_KEYS {
        return Err(failure(&format!(
            "it holds {} keys; the limit is {MAX_KEYS}",
            keys.len()
        )));
    }
    Ok(keys)
}

/// Adds a key with a drawn secret, which is given back.
pub fn create(file: &Path, id: &str) -> Outcome<String> {
    // The rule of node ids fits: it goes into URLs, logs and a TOML key.
    longspan_proto::ids::NodeId::new(id)
        .map_err(|error: NameError| Failure::usage(format!("key id {id:?}: {error}")))?;
    let mut keys = read(file)?;
    if keys.contains_key(id) {
        return Err(Failure::refused(format!(
            "{} holds a key {id:?} already; choose another --id",
            file.display()
        )));
    }
    if keys.len() >= MAX_KEYS {
        return Err(Failure::refused(format!(
            "{} holds {MAX_KEYS} keys, the limit; remove one",
            file.display()
        )));
    }
    let secret = secret()?;
    keys.insert(id.to_owned(), secret.clone());
    let text = toml::to_string(&keys).map_err(Failure::failed)?;
    write_private(file, text.as_bytes())?;
    Ok(secret)
}

/// 64 random hex digits.
pub fn secret() -> Outcome<String> {
    let mut bytes = [0; SECRET];
    rand::fill(&mut bytes).map_err(|_| Failure::failed("the system gives no random numbers"))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(file: &Path, content: &[u8]) -> Outcome {
    let beside = file.with_extension("new");
    let write = || {
        // A leftover of a crash may have other permissions.
        let _ = fs::remove_file(&beside);
        let mut open = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        open.write_all(content)?;
        open.sync_all()?;
        fs::rename(&beside, file)
    };
    write().map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("jwt-keys.toml");
        assert!(read(&file).expect("none").is_empty());
        let secret = create(&file, "school-3").expect("made");
        assert_eq!(secret.len(), 64);
        create(&file, "school-4").expect("made");
        let keys = read(&file).expect("both");
        assert_eq!(keys.len(), 2);
        assert_eq!(keys["school-3"], secret);
        let mode = fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = create(&file, "school-3").expect_err("refused");
        assert_eq!(again.kind, Kind::Refused);
        let bad = create(&file, "School 3").expect_err("refused");
        assert_eq!(bad.kind, Kind::Usage);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(
            read(&file)
                .expect_err("refused")
                .to_string()
                .contains("chmod")
        );
    }
}
