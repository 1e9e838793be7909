//! `hubctl key`: Ed25519 keys without a hub. An operator can have a key before there is a hub to log in to, and a
//! root key never meets one.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use sfdata_common::keys::SigningKey;

use crate::{
    cli::Context,
    exit::Exit,
    output,
    profile::{self, Profile, own_signing_key_file, read_signing_key},
};

/// Make and show signing keys
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    Create(Create),
    Show(Show),
}

impl Key {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Create(create) => create.run(context),
            Self::Show(show) => show.run(context),
        }
    }
}

/// Make a signing key and print its public half
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl key create                    Make the profile's key, before or after the login
  hubctl key create --out root-1.key   Make a root key, to be kept offline")]
pub(crate) struct Create {
    /// File to write, instead of the profile's signing.key
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Create {
    fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let path = match self.out {
            Some(path) => path,
            None => {
                profile::make_folder(&context.folder)?;
                own_signing_key_file(&context.folder)
            }
        };
        let key = SigningKey::create(&path)?;
        output::note(format_args!("the private key is in {}; keep it to yourself", path.display()));
        print(context, &key)
    }
}

/// Print the public half of a signing key
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Key file, instead of the profile's
    file: Option<PathBuf>,
}

impl Show {
    fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let key = match self.file {
            Some(path) => SigningKey::read(&path)?,
            None => match Profile::open(&context.folder) {
                Ok(profile) => profile.signing_key()?,
                Err(profile::Error::NotThere { .. }) => read_signing_key(&own_signing_key_file(&context.folder))?,
                Err(error) => return Err(error.into()),
            },
        };
        print(context, &key)
    }
}

fn print(context: &Context, key: &SigningKey) -> anyhow::Result<Exit> {
    let public = key.public().to_string();
    context.output.text(&json!({ "public_key": public, "key_id": key.id() }), &public)?;
    Ok(Exit::Done)
}
