//! `hubctl key`: Ed25519 keys without a hub. An operator can have a key before there is a hub to log in to, and a
//! root key never meets one.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use sfdata_common::keys::{KeyFile, PublicKey, SigningKey};

use crate::{
    cli::Context,
    exit::Exit,
    keyring::Keyring,
    output,
    profile::{self, own_signing_key_file, signing_key_file},
};

/// Make and show signing keys
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    Create(Create),
    Show(Show),
    Passphrase(Passphrase),
}

impl Key {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Create(create) => create.run(context).await,
            Self::Show(show) => show.run(context).await,
            Self::Passphrase(passphrase) => passphrase.run(context).await,
        }
    }
}

/// Make a signing key and print its public half
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl key create --passphrase                    Make the profile's key, before or after the login
  hubctl key create --passphrase --out root-1.key   Make a root key, to be kept offline")]
pub(crate) struct Create {
    /// File to write, instead of the profile's signing.key
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Put it under a passphrase: asked for, or from --passphrase-file
    #[arg(long)]
    passphrase: bool,
}

impl Create {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let path = match self.out {
            Some(path) => path,
            None => {
                profile::make_folder(&context.folder)?;
                own_signing_key_file(&context.folder)
            }
        };
        let passphrase = if self.passphrase { Some(context.keyring.choose(&path).await?) } else { None };
        let key = SigningKey::create_under(&path, passphrase.as_ref().map(|text| text.as_str()))?;
        output::note(format_args!("the private key is in {}; keep it to yourself", path.display()));
        print(context, key.public(), self.passphrase)
    }
}

/// Print the public half of a signing key
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Key file, instead of the profile's
    file: Option<PathBuf>,
}

impl Show {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let path = named_or_own(self.file, &context.folder)?;
        let key = KeyFile::read(&path)?;
        let public = match key.public() {
            Some(public) => public,
            None => context.keyring.open(&path).await?.public(),
        };
        print(context, public, key.is_protected())
    }
}

/// Put a key under a passphrase, change it, or take it off
#[derive(Debug, Args)]
#[command(after_help = "\
Without a terminal, passphrases come from files of mode 0600: the present one from --passphrase-file
(or SFDATA_PASSPHRASE_FILE), the next one from --new-passphrase-file.

Examples:
  hubctl key passphrase                  The profile's key: asks for the present one, where there is one,
                                         and for the next one twice
  hubctl key passphrase root-1.key       Any other key
  hubctl key passphrase --remove")]
pub(crate) struct Passphrase {
    /// Key file, instead of the profile's
    file: Option<PathBuf>,
    /// File with the next passphrase, instead of asking for it
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// Leave the key without one; whoever can read the file can sign then
    #[arg(long, conflicts_with = "new_passphrase_file")]
    remove: bool,
}

impl Passphrase {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let path = named_or_own(self.file, &context.folder)?;
        let key = context.keyring.open(&path).await?;
        let next = if self.remove { None } else { Some(Keyring::new(self.new_passphrase_file).choose(&path).await?) };
        key.replace(&path, next.as_ref().map(|text| text.as_str()))?;
        output::note(match next {
            Some(_) => format!("{} is under the new passphrase; who forgets it needs a new key", path.display()),
            None => format!("{} is under no passphrase any more", path.display()),
        });
        print(context, key.public(), next.is_some())
    }
}

fn named_or_own(file: Option<PathBuf>, folder: &Path) -> Result<PathBuf, profile::Error> {
    file.map_or_else(|| signing_key_file(folder), Ok)
}

fn print(context: &Context, key: PublicKey, passphrase: bool) -> anyhow::Result<Exit> {
    let public = key.to_string();
    context.output.text(&json!({ "public_key": public, "key_id": key.id(), "passphrase": passphrase }), &public)?;
    Ok(Exit::Done)
}
