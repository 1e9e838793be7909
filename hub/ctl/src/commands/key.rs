//! `hubctl key`: Ed25519 keys without a hub. An operator can have a key before there is a hub to log in to, and a
//! root key never meets one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use sfdata_common::{
    Timestamp,
    keys::{KeyFile, PublicKey, SigningKey},
};

use crate::{
    cli::Context,
    client::Hub,
    exit::Exit,
    keyring::Keyring,
    output, pinned,
    profile::{self, Profile, own_signing_key_file, signing_key_file},
};

/// Make and show signing keys
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    Create(Create),
    Show(Show),
    Passphrase(Passphrase),
    Rotate(Rotate),
}

impl Key {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Create(create) => create.run(context).await,
            Self::Show(show) => show.run(context).await,
            Self::Passphrase(passphrase) => passphrase.run(context).await,
            Self::Rotate(rotate) => rotate.run(context).await,
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

/// Put another signing key in the place of the profile's, without a time in which you can sign nothing
#[derive(Debug, Args)]
#[command(after_help = "\
The first time it makes signing-next.key and prints its public half, for an admin:
  hubctl trust add-operator NAME --key ed25519:... --role ROLE --beside     then sign and publish
Said again, it asks the hub for the newest trust bundle and, if that lists the next key, uses it from then on.
The old key is kept as signing-old.key until the admin has said add-operator once more, without --beside.")]
pub(crate) struct Rotate {
    /// Put the next key under a passphrase: asked for, or from --passphrase-file
    #[arg(long)]
    passphrase: bool,
}

impl Rotate {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let profile = Profile::open(&context.folder)?;
        let path = profile.signing_key_file()?;
        let [next, old] = ["-next.key", "-old.key"].map(|end| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            path.with_file_name(format!("{stem}{end}"))
        });
        let name = &profile.settings.operator;
        if !next.exists() {
            let passphrase = if self.passphrase { Some(context.keyring.choose(&next).await?) } else { None };
            let key = SigningKey::create_under(&next, passphrase.as_ref().map(|text| text.as_str()))?;
            output::note(format_args!(
                "made {}; ask an admin for:\n  hubctl trust add-operator {name} --key {} --role ... --beside\n\
                 and say hubctl key rotate again once that is published",
                next.display(),
                key.public()
            ));
            return print(context, key.public(), self.passphrase);
        }
        let file = KeyFile::read(&next)?;
        let public = match file.public() {
            Some(public) => public,
            None => context.keyring.open(&next).await?.public(),
        };
        let hub = Hub::connect(context).await?;
        let held = pinned::refresh(&hub).await?.held.context("the hub has no trust bundle yet")?;
        let now = Timestamp::now();
        ensure!(
            held.bundle.operator_keys(name).any(|listed| listed.key == public && listed.expires > now),
            "trust bundle version {} does not list {public} yet; ask an admin for: hubctl trust add-operator {name} --key \
             {public} --role ... --beside, sign and publish",
            held.bundle.version
        );
        // At every instant one of the two is there under the name that is looked for.
        fs::copy(&path, &old).with_context(|| format!("cannot keep the old key as {}", old.display()))?;
        fs::rename(&next, &path)
            .with_context(|| format!("cannot put {} in the place of {}", next.display(), path.display()))?;
        output::note(format_args!(
            "this key signs from now on, and {} is the old one; ask an admin for:\n  \
             hubctl trust add-operator {name} --key {public} --role ...\nwhich takes the old one's rights away",
            old.display()
        ));
        print(context, public, file.is_protected())
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
