//! `hubctl trust init`: the first bundle of a new hub, from what the hub shows of itself and the root keys.

use std::{path::PathBuf, str::FromStr};

use anyhow::{Context as _, ensure};
use clap::Args;
use sfdata_common::{
    Timestamp, keyfile,
    keys::{self, KeyFile, PublicKey, SigningKey},
    trust::{Bundle, hub_identity_from_pem},
};
use sfdata_proto::v1::HubIdentity;

use super::{draft, show};
use crate::{
    cli::Context,
    exit::{Exit, Usage},
    output,
};

/// Begin the first trust bundle of a new hub
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl trust init --hub hub-identity.pem --root-key root-1.key --root-key ed25519:... --threshold 2
  hubctl trust init --hub hub-identity.pem --generate 1 --threshold 1     A throw-away one, to try things out")]
pub(crate) struct Init {
    /// The hub's identity, from `sfdata-hub init`
    // Named as the global option, and so of its type: here there is no hub to connect to.
    #[arg(long, value_name = "FILE")]
    hub: String,
    /// Root key: a key file, or ed25519:... when somebody else keeps it; repeatable
    #[arg(long = "root-key", value_name = "FILE|KEY", required_unless_present = "generate")]
    root_keys: Vec<RootKey>,
    /// Make so many new root keys beside the bundle: root-1.key, root-2.key, ...
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=20))]
    generate: Option<u8>,
    /// Put each new root key under a passphrase of its own
    #[arg(long, requires = "generate")]
    passphrase: bool,
    /// How many root keys must sign a bundle
    #[arg(long, value_name = "K")]
    threshold: usize,
    /// File to write the bundle to
    #[arg(long, value_name = "FILE", default_value = "bundle.pem")]
    out: PathBuf,
}

/// A root key, by its file or by its public half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RootKey {
    File(PathBuf),
    Public(PublicKey),
}

impl FromStr for RootKey {
    type Err = keys::Error;
    fn from_str(text: &str) -> Result<Self, keys::Error> {
        if text.starts_with("ed25519:") { text.parse().map(Self::Public) } else { Ok(Self::File(text.into())) }
    }
}

impl RootKey {
    /// Its public half; of a key under a passphrase that another program wrote, only the passphrase shows it.
    pub(super) async fn public(&self, context: &Context) -> anyhow::Result<PublicKey> {
        match self {
            Self::File(path) => match KeyFile::read(path)?.public() {
                Some(public) => Ok(public),
                None => Ok(context.keyring.open(path).await?.public()),
            },
            Self::Public(key) => Ok(*key),
        }
    }
}

impl Init {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = self.identity()?;
        let mut given = Vec::new();
        for key in &self.root_keys {
            given.push(key.public(context).await?);
        }
        check(&given, self.generate.unwrap_or(0).into(), self.threshold)?;
        ensure!(
            !self.out.exists(),
            "{} exists already; move it away, or name another file with --out",
            self.out.display()
        );
        let mut root_keys = given;
        for number in 1..=self.generate.unwrap_or(0) {
            let path = self.out.with_file_name(format!("root-{number}.key"));
            let passphrase = if self.passphrase { Some(context.keyring.choose(&path).await?) } else { None };
            root_keys.push(SigningKey::create_under(&path, passphrase.as_ref().map(|text| text.as_str()))?.public());
            output::note(format_args!("made root key {}", path.display()));
        }
        let bundle = Bundle {
            version: 1,
            trust_domain: hub.trust_domain,
            issued: Timestamp::now(),
            root_keys,
            threshold: self.threshold,
            operators: Vec::new(),
            dispatch_keys: vec![
                PublicKey::from_bytes(&hub.dispatch_key).context("the hub's dispatch key is not valid")?,
            ],
            ca_certificates: vec![hub.ca_certificate.to_vec()],
        };
        draft::write(&self.out, &bundle.unsigned())?;
        output::note(format_args!(
            "begun version 1 in {}; next: hubctl trust add-operator, then sign, then publish",
            self.out.display()
        ));
        show::print(context, &bundle.unsigned(), &bundle, None)?;
        Ok(Exit::Done)
    }

    fn identity(&self) -> anyhow::Result<HubIdentity> {
        let text = keyfile::read(self.hub.as_ref())?;
        hub_identity_from_pem(&text)
            .with_context(|| format!("{} is not the identity file that `sfdata-hub init` writes", self.hub))
    }
}

/// Root keys and threshold make sense together.
pub(super) fn check(given: &[PublicKey], generated: usize, threshold: usize) -> Result<(), Usage> {
    let mut unique = given.to_vec();
    unique.sort();
    unique.dedup();
    if unique.len() < given.len() {
        return Err(Usage("the same root key is given twice".into()));
    }
    let count = given.len() + generated;
    if threshold == 0 || threshold > count {
        return Err(Usage(format!("--threshold must be 1 to {count}, for there are {count} root keys")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_keys_are_files_or_public_keys() {
        let public = SigningKey::generate().unwrap().public();
        assert_eq!(public.to_string().parse::<RootKey>().unwrap(), RootKey::Public(public));
        assert_eq!("root-1.key".parse::<RootKey>().unwrap(), RootKey::File("root-1.key".into()));
        assert!("ed25519:short".parse::<RootKey>().is_err());
    }

    #[test]
    fn the_threshold_fits_the_keys() {
        let key = SigningKey::generate().unwrap().public();
        assert!(check(&[key], 2, 3).is_ok());
        assert!(check(&[key], 0, 2).is_err());
        assert!(check(&[key], 0, 0).is_err());
        assert!(check(&[key, key], 0, 1).unwrap_err().to_string().contains("twice"));
    }
}
