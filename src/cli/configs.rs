//! `longspan config …`

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Context, output};
use crate::{
    config::{self, Document, Role, jwt_keys, keys},
    failure::Outcome,
};

/// Configuration.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Checks a file with environment and --set over it
    Validate(Which),
    /// What is in force, and where each value comes from
    Show(Which),
    /// All keys
    Schema {
        /// Only of this role
        #[arg(long)]
        role: Option<Role>,
    },
}

/// Which configuration.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The file
    file: PathBuf,
    /// For which role; the one the file looks like if it is not told
    #[arg(long)]
    role: Option<Role>,
    /// Sets one key, over file and environment
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Which {
    fn load(&self) -> Outcome<Document> {
        Document::load(&self.file, self.role, &self.set)
    }
}

pub fn run(verb: Verb, context: &Context) -> Outcome {
    match verb {
        Verb::Validate(which) => {
            let document = which.load()?;
            let role = document.role();
            match role {
                Role::Relay => drop(document.parse::<config::Relay>()?),
                Role::Edge => {
                    let edge: config::Edge = document.parse()?;
                    if let Some(file) = &edge.auth.jwt_keys {
                        jwt_keys::read(file)?;
                    }
                }
                Role::Controller => drop(document.parse::<config::Controller>()?),
            }
            let file = which.file.display().to_string();
            output::object(
                context.format,
                &json!({ "file": file, "role": role.to_string(), "valid": true }),
            )
        }
        Verb::Show(which) => {
            let document = which.load()?;
            let shown: Vec<Value> = keys::of(document.role())
                .map(|key| {
                    let (value, source) = document.value(key);
                    json!({ "key": key.path, "value": value, "source": source.to_string() })
                })
                .collect();
            let columns = [("KEY", "/key"), ("VALUE", "/value"), ("FROM", "/source")];
            output::list(context.format, &shown, &columns)
        }
        Verb::Schema { role } => {
            let shown: Vec<Value> = keys::KEYS
                .iter()
                .filter(|key| role.is_none_or(|role| key.roles.contains(&role)))
                .map(|key| {
                    let roles: Vec<String> = key.roles.iter().map(Role::to_string).collect();
                    json!({
                        "key": key.path, "type": key.kind.name(), "roles": roles, "default": key.default,
                        "required": key.required, "reloads": key.reloads, "variable": key.variable(), "doc": key.doc,
                    })
                })
                .collect();
            output::list(
                context.format,
                &shown,
                &[
                    ("KEY", "/key"),
                    ("TYPE", "/type"),
                    ("ROLES", "/roles"),
                    ("DEFAULT", "/default"),
                    ("REQUIRED", "/required"),
                    ("RELOADS", "/reloads"),
                    ("MEANING", "/doc"),
                ],
            )
        }
    }
}
