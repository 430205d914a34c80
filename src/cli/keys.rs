//! `longspan key …`: the keys with which users' tokens are signed, in a file that edges read
//! (`auth.jwt_keys`; again at SIGHUP).

use std::path::PathBuf;

use clap::Subcommand;
use longspan_proto::ids::{Room, Tenant};
use serde_json::{Value, json};

use super::{Context, Format, output};
use crate::{
    config::jwt_keys,
    failure::{Failure, Outcome},
    token, up,
};

/// Keys.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Makes a key and prints its secret, once
    Create {
        #[command(flatten)]
        file: KeyFile,
        /// The key's id (a token's kid or iss)
        #[arg(long)]
        id: String,
    },
    /// The ids of all keys; never their secrets
    Ls {
        #[command(flatten)]
        file: KeyFile,
    },
    /// Signs a token for one user of one room
    Token {
        #[command(flatten)]
        file: KeyFile,
        /// Signs with this key; the file's first one if it is not told
        #[arg(long)]
        id: Option<String>,
        /// The room it opens
        #[arg(long)]
        room: String,
        /// Whose room it is
        #[arg(long)]
        tenant: Option<String>,
        /// Who brings it; the same identity takes over its own stream
        #[arg(long, default_value = "guest")]
        identity: String,
        /// May publish
        #[arg(long)]
        publish: bool,
        /// How long it is good, such as 90s, 30m or 8h
        #[arg(long, default_value = "8h", value_parser = output::duration)]
        ttl: std::time::Duration,
    },
}

/// Which file.
#[derive(Debug, clap::Args)]
pub struct KeyFile {
    /// The file of the keys; that of the running `up` if it is not told
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl KeyFile {
    fn path(&self, context: &Context) -> Outcome<PathBuf> {
        match &self.file {
            Some(file) => Ok(file.clone()),
            None => Ok(up::data_dir::running(&context.data_dir()?)?.jwt_keys),
        }
    }
}

pub fn run(verb: Verb, context: &Context) -> Outcome {
    match verb {
        Verb::Create { file, id } => {
            let file = file.path(context)?;
            let secret = jwt_keys::create(&file, &id)?;
            eprintln!(
                "longspan: {} holds key {id} now; edges take it at the next SIGHUP or start",
                file.display()
            );
            output::object(context.format, &json!({ "id": id, "secret": secret }))
        }
        Verb::Ls { file } => {
            let keys = jwt_keys::read(&file.path(context)?)?;
            let keys: Vec<Value> = keys
                .iter()
                .map(|(id, secret)| json!({ "id": id, "bytes": secret.len() }))
                .collect();
            output::list(context.format, &keys, &[("ID", "/id"), ("BYTES", "/bytes")])
        }
        Verb::Token {
            file,
            id,
            room,
            tenant,
            identity,
            publish,
            ttl,
        } => {
            Room::new(&room).map_err(Failure::usage)?;
            if let Some(tenant) = &tenant {
                Tenant::new(tenant).map_err(Failure::usage)?;
            }
            let grant = token::Grant {
                room: &room,
                identity: &identity,
                publish,
                seconds: ttl.as_secs(),
                tenant: tenant.as_deref(),
            };
            let token = token::mint(&file.path(context)?, id.as_deref(), &grant)?;
            match context.format {
                Format::Json => output::json(&json!({ "token": token })),
                Format::Table => output::print(&format!("{token}\n")),
            }
        }
    }
}
