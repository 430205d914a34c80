//! A configuration as it was written, before it is taken apart: checked against the list of keys,
//! with what environment and flags put over it.

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::keys::{self, Key, Kind, OPTIONAL_SECTIONS, Role};
use crate::failure::{Failure, Outcome, hint};

/// The largest configuration file that is read, in bytes: one above it is not a configuration.
const MAX_FILE: u64 = 1 << 20;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody told it.
    Default,
    /// The file.
    File,
    /// This environment variable.
    Environment(String),
    /// `--set`.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File => f.write_str("file"),
            Source::Environment(variable) => f.write_str(variable),
            Source::Flag => f.write_str("--set"),
        }
    }
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Document {
    file: PathBuf,
    role: Role,
    table: Table,
    sources: BTreeMap<&'static str, Source>,
}

impl Document {
    /// Reads `file`, lays the environment and then `sets` (each `key=value`) over it, and checks
    /// all of it against the keys of `role`; without one, the role the file looks like.
    pub fn load(file: &Path, role: Option<Role>, sets: &[String]) -> Outcome<Document> {
        Document::load_in(file, role, sets, |variable| env::var(variable).ok())
    }

    fn load_in(
        file: &Path,
        role: Option<Role>,
        sets: &[String],
        variable: impl Fn(&str) -> Option<String>,
    ) -> Outcome<Document> {
        let table = read(file)?;
        let role = role.unwrap_or_else(|| looks_like(&table));
        let mut document = Document {
            file: file.to_owned(),
            role,
            table: Table::new(),
            sources: BTreeMap::new(),
        };
        document.take(table)?;
        for key in keys::of(role) {
            let name = key.variable();
            if let Some(text) = variable(&name) {
                let value = parse(key, &text)
                    .map_err(|why| Failure::usage(format!("{name}={text:?}: {why}")))?;
                document.put(key, value, Source::Environment(name));
            }
        }
        for set in sets {
            document.set(set)?;
        }
        document.require()?;
        document.resolve_paths();
        Ok(document)
    }

    /// Which role it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The typed configuration.
    pub fn parse<T: DeserializeOwned>(&self) -> Outcome<T> {
        Value::Table(self.table.clone())
            .try_into()
            .map_err(|error: toml::de::Error| {
                // The path is in the message's last line: "in `node.id`".
                self.failure(error.to_string().replace('\n', " ").trim())
            })
    }

    /// A key's value as text, and where it comes from.
    pub fn value(&self, key: &Key) -> (Option<String>, Source) {
        match self.get(key.path) {
            Some(value) => {
                let source = self.sources.get(key.path).cloned();
                (Some(show(value)), source.unwrap_or(Source::File))
            }
            None => (key.default.map(str::to_owned), Source::Default),
        }
    }

    /// The keys whose values differ.
    pub fn changes(&self, other: &Document) -> Vec<&'static Key> {
        keys::of(self.role)
            .filter(|key| self.value(key).0 != other.value(key).0)
            .collect()
    }

    fn get(&self, path: &str) -> Option<&Value> {
        let (section, name) = path.split_once('.')?;
        self.table.get(section)?.as_table()?.get(name)
    }

    /// Takes what the file says, checking each key and each value's type.
    fn take(&mut self, table: Table) -> Outcome {
        for (section, content) in table {
            let Value::Table(content) = content else {
                return Err(self.unknown(&section));
            };
            if !keys::of(self.role).any(|key| key.section() == section) {
                return Err(self.unknown(&section));
            }
            if content.is_empty() {
                self.table.insert(section, Value::Table(Table::new()));
                continue;
            }
            for (name, value) in content {
                let path = format!("{section}.{name}");
                let Some(key) = keys::of(self.role).find(|key| key.path == path) else {
                    return Err(self.unknown(&path));
                };
                check(key, &value)
                    .map_err(|why| self.failure(format!("{path} = {}: {why}", show(&value))))?;
                self.put(key, value, Source::File);
            }
        }
        Ok(())
    }

    fn set(&mut self, set: &str) -> Outcome {
        let Some((path, text)) = set.split_once('=') else {
            return Err(Failure::usage(format!(
                "--set {set:?}: write it as section.key=value"
            )));
        };
        let Some(key) = keys::of(self.role).find(|key| key.path == path) else {
            return Err(self.unknown(path));
        };
        let value =
            parse(key, text).map_err(|why| Failure::usage(format!("--set {set:?}: {why}")))?;
        self.put(key, value, Source::Flag);
        Ok(())
    }

    fn put(&mut self, key: &Key, value: Value, source: Source) {
        let Some((section, name)) = key.path.split_once('.') else {
            return;
        };
        let section = self
            .table
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = section {
            section.insert(name.to_owned(), value);
        }
        self.sources.insert(key.path, source);
    }

    fn require(&self) -> Outcome {
        for key in keys::of(self.role).filter(|key| key.required) {
            let optional = OPTIONAL_SECTIONS.contains(&(key.section(), self.role));
            if optional && !self.table.contains_key(key.section()) {
                continue;
            }
            if self.get(key.path).is_none() {
                return Err(self.failure(format!(
                    "{} is missing ({}); set it there or as {}",
                    key.path,
                    key.doc,
                    key.variable()
                )));
            }
        }
        Ok(())
    }

    /// Relative paths are the file's neighbours; from environment and flags the caller's.
    fn resolve_paths(&mut self) {
        let folder = self.file.parent().unwrap_or(Path::new("")).to_owned();
        for key in keys::of(self.role).filter(|key| key.kind == Kind::Path) {
            if self.sources.get(key.path) != Some(&Source::File) {
                continue;
            }
            let Some(Value::String(path)) = self.get(key.path) else {
                continue;
            };
            let path = folder.join(path).to_string_lossy().into_owned();
            self.put(key, Value::String(path), Source::File);
        }
    }

    fn unknown(&self, path: &str) -> Failure {
        let paths = keys::of(self.role).map(|key| key.path);
        let sections = keys::of(self.role).map(Key::section);
        let hint = if path.contains('.') {
            // A right name in a wrong section is meant more often than a similar section.
            let name = path.rsplit('.').next().unwrap_or(path);
            let same = paths.clone().find(|known| {
                known
                    .split_once('.')
                    .is_some_and(|(_, known)| known == name)
            });
            match same {
                Some(same) => format!(" (did you mean {same}?)"),
                None => hint(path, paths),
            }
        } else {
            hint(path, sections)
        };
        self.failure(format!(
            "unknown key {path}{hint}; `longspan config schema --role {}` lists all",
            self.role
        ))
    }

    fn failure(&self, why: impl fmt::Display) -> Failure {
        Failure::usage(format!("{}: {why}", self.file.display()))
    }
}

fn read(file: &Path) -> Outcome<Table> {
    let failure = |why: &dyn fmt::Display| {
        Failure::usage(format!(
            "cannot read the configuration {}: {why}",
            file.display()
        ))
    };
    let size = fs::metadata(file).map_err(|error| failure(&error))?.len();
    if size > MAX_FILE {
        return Err(failure(&format!(
            "it has {size} bytes; the limit is {MAX_FILE}"
        )));
    }
    let text = fs::read_to_string(file).map_err(|error| failure(&error))?;
    text.parse::<Table>().map_err(|error| {
        let line = error
            .span()
            .map(|span| text[..span.start.min(text.len())].lines().count().max(1));
        let place = line.map_or_else(String::new, |line| format!(", line {line}"));
        Failure::usage(format!("{}{place}: {}", file.display(), error.message()))
    })
}

fn looks_like(table: &Table) -> Role {
    if table.contains_key("store") {
        Role::Controller
    } else if ["http", "rtmp", "auth", "sample"]
        .iter()
        .any(|section| table.contains_key(*section))
    {
        Role::Edge
    } else {
        Role::Relay
    }
}

/// `Err` says what a value must be.
fn check(key: &Key, value: &Value) -> Result<(), String> {
    let fits = match (key.kind, value) {
        (Kind::Text | Kind::Path, Value::String(text)) => !text.is_empty(),
        (Kind::Address, Value::String(text)) => text.parse::<SocketAddr>().is_ok(),
        (Kind::Addresses, Value::Array(items)) => items.iter().all(|item| {
            item.as_str()
                .is_some_and(|text| text.parse::<SocketAddr>().is_ok())
        }),
        (Kind::Texts, Value::Array(items)) => {
            !items.is_empty() && items.iter().all(|item| item.is_str())
        }
        (Kind::Number, Value::Integer(_) | Value::Float(_)) => true,
        (Kind::Flag, Value::Boolean(_)) => true,
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(format!("it must be {}", key.kind.name()))
    }
}

/// A value from the text of a variable or a flag; lists are separated by commas.
fn parse(key: &Key, text: &str) -> Result<Value, String> {
    let list = || {
        let items = text
            .split(',')
            .map(|item| Value::String(item.trim().to_owned()));
        Value::Array(items.collect())
    };
    let value = match key.kind {
        Kind::Text | Kind::Path | Kind::Address => Value::String(text.to_owned()),
        Kind::Addresses | Kind::Texts => list(),
        Kind::Number => text
            .parse()
            .map(Value::Float)
            .unwrap_or_else(|_| Value::String(text.to_owned())),
        Kind::Flag => text
            .parse()
            .map(Value::Boolean)
            .unwrap_or_else(|_| Value::String(text.to_owned())),
    };
    check(key, &value).map(|()| value)
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(show).collect();
            items.join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
