//! `hubctl whoami`: who the operator is to this hub, by what is kept here and by what the hub says. Without the hub it tells
//! what is known here, and what could not be asked.

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use sfdata_common::{
    Timestamp,
    error::chain,
    keys::{KeyFile, PublicKey},
    peer::Peer,
    trust::{Bundle, OperatorKey, Role},
};
use sfdata_proto::v1::{WhoAmIRequest, WhoAmIResponse};

use super::operators;
use crate::{
    cli::Context,
    client::{self, Hub},
    exit::Exit,
    output,
    profile::{Held, Profile},
    table::{Cell, Table, Tone, row},
    words,
};

/// Show who you are to this hub: keys, roles, and what ends when
#[derive(Debug, Args)]
#[command(after_help = "\
Without a connection it shows what is kept on this machine, says what could not be asked, and exits with 1.")]
pub(crate) struct Whoami {}

impl Whoami {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let profile = Profile::open(&context.folder)?;
        let asked = ask(context).await;
        // Read after the hub was asked: the certificate may be a new one.
        let mine = Mine::read(context, &profile)?;
        let now = Timestamp::now();
        context.output.data(&mine.to_json(asked.as_ref().ok()), &mine.tables(asked.as_ref().ok(), now))?;
        mine.warn(now);
        match asked {
            Ok(_) => Ok(Exit::Done),
            Err(error) => {
                output::warn(format_args!("the hub was not asked when you were last seen: {}", chain(error.as_ref())));
                Ok(Exit::NotDone)
            }
        }
    }
}

async fn ask(context: &Context) -> anyhow::Result<WhoAmIResponse> {
    let hub = Hub::connect(context).await?;
    Ok(hub.ask("ask who you are", hub.operator().who_am_i(WhoAmIRequest {})).await?)
}

/// What is kept on this machine.
struct Mine {
    operator: String,
    address: String,
    trust_domain: String,
    folder: String,
    certificate: Peer,
    trust: Option<Held>,
    key_file: String,
    /// The key and whether it is under a passphrase; or why it can't be told.
    key: Result<(Option<PublicKey>, bool), String>,
}

impl Mine {
    fn read(context: &Context, profile: &Profile) -> anyhow::Result<Self> {
        let path = profile.signing_key_file();
        let key = match &path {
            Ok(path) => KeyFile::read(path)
                .map(|key| (key.public(), key.is_protected()))
                .map_err(|error| chain(&error).to_string()),
            Err(error) => Err(error.to_string()),
        };
        Ok(Self {
            operator: profile.settings.operator.to_string(),
            address: context.hub.clone().unwrap_or_else(|| profile.settings.address.clone()),
            trust_domain: profile.settings.trust_domain.clone(),
            folder: context.folder.display().to_string(),
            certificate: profile.identity().context("who you are to the hub cannot be read")?.peer().clone(),
            trust: profile.trust()?,
            key_file: path.map(|path| path.display().to_string()).unwrap_or_default(),
            key,
        })
    }

    fn bundle(&self) -> Option<&Bundle> {
        self.trust.as_ref().map(|held| &held.bundle)
    }

    fn public(&self) -> Option<PublicKey> {
        self.key.as_ref().ok().and_then(|(public, _)| *public)
    }

    /// What the bundle that is held here lists for this operator.
    fn listed(&self) -> Vec<&OperatorKey> {
        let Some(bundle) = self.bundle() else { return Vec::new() };
        bundle.operators.iter().filter(|key| key.name.as_str() == self.operator).collect()
    }

    /// The entry for this very key.
    fn entry(&self) -> Option<&OperatorKey> {
        self.listed().into_iter().find(|key| Some(key.key) == self.public())
    }

    fn to_json(&self, asked: Option<&WhoAmIResponse>) -> Value {
        let seen = asked.and_then(|asked| asked.operator.as_ref());
        json!({
            "operator": self.operator,
            "hub": self.address,
            "trust_domain": self.trust_domain,
            "profile": self.folder,
            "roles": self.entry().map(|key| key.roles.iter().copied().map(Role::as_str).collect::<Vec<_>>()),
            "signing_key": self.public().map(|key| key.to_string()),
            "key_id": self.public().map(|key| key.id()),
            "key_file": self.key_file,
            "passphrase": self.key.as_ref().ok().map(|(_, protected)| protected),
            "key_listed": self.entry().is_some(),
            "key_expires": self.entry().map(|key| key.expires),
            "certificate_expires": self.certificate.not_after,
            "certificate_renews": client::renews(&self.certificate),
            "trust_version": self.bundle().map(|bundle| bundle.version),
            "hub_trust_version": asked.map(|asked| asked.trust_version),
            "last_seen": seen.and_then(|seen| words::time(seen.last_seen_unix_ms)),
            "last_signed": seen.and_then(|seen| words::time(seen.last_signed_unix_ms)),
            "flags": seen.map(|seen| seen.flags().map(words::operator_flag).collect::<Vec<_>>()),
        })
    }

    fn tables(&self, asked: Option<&WhoAmIResponse>, now: Timestamp) -> Vec<Table> {
        let mut table = Table::card();
        table.push(row!["operator", self.operator]);
        table.push(row!["hub", format!("{} ({})", self.address, self.trust_domain)]);
        table.push(row!["profile", self.folder]);
        let roles = self.entry().map(|key| key.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" "));
        table.push(row!["roles", roles.unwrap_or_default()]);
        table.push(row!["signing key", self.public().map_or_else(|| "not known".to_owned(), |key| key.id())]);
        let file = match &self.key {
            Ok((_, true)) => format!("{}, under a passphrase", self.key_file),
            Ok((_, false)) => format!("{}, without a passphrase", self.key_file),
            Err(error) => error.clone(),
        };
        table.push(row!["key file", file]);
        table.push(vec![Cell::from("key"), self.key_cell(now)]);
        let certificate = format!(
            "until {}, renewed by the first use from {} on",
            day(self.certificate.not_after),
            day(client::renews(&self.certificate))
        );
        let tone = if self.certificate.not_after > now { Tone::Plain } else { Tone::Bad };
        table.push(vec![Cell::from("certificate"), Cell::new(certificate, tone)]);
        let held = self.bundle().map_or_else(|| "none".to_owned(), |bundle| format!("version {}", bundle.version));
        let newest = asked.map(|asked| format!(", the hub's is {}", asked.trust_version)).unwrap_or_default();
        table.push(row!["trust bundle", format!("{held}{newest}")]);
        let seen = asked.and_then(|asked| asked.operator.as_ref());
        let ago = |at: i64| if at == 0 { "never".to_owned() } else { format!("{} ago", words::age(at, now)) };
        let told = |at: Option<i64>| at.map_or_else(|| "not known: the hub was not asked".to_owned(), ago);
        table.push(row!["last seen", told(seen.map(|seen| seen.last_seen_unix_ms))]);
        table.push(row!["last order", told(seen.map(|seen| seen.last_signed_unix_ms))]);
        if let Some(seen) = seen.filter(|seen| !seen.flags.is_empty()) {
            table.push(vec![Cell::from("flagged"), Cell::new(operators::flags(seen), Tone::Bad)]);
        }
        vec![table]
    }

    /// Whether this key is in the bundle, and until when.
    fn key_cell(&self, now: Timestamp) -> Cell {
        match (self.entry(), self.bundle()) {
            (Some(key), _) if key.expires <= now => Cell::new(format!("ended on {}", day(key.expires)), Tone::Bad),
            (Some(key), _) => Cell::new(format!("in the trust bundle until {}", day(key.expires)), Tone::Good),
            (None, None) => Cell::new("there is no trust bundle here yet", Tone::Pending),
            (None, Some(_)) if self.public().is_none() => {
                Cell::new("not known: hubctl key show asks for the passphrase", Tone::Pending)
            }
            (None, Some(_)) if self.listed().is_empty() => Cell::new("not in the trust bundle", Tone::Bad),
            (None, Some(_)) => Cell::new("the trust bundle has another one for you", Tone::Bad),
        }
    }

    fn warn(&self, now: Timestamp) {
        if let (Some(bundle), None, Some(key)) = (self.bundle(), self.entry(), self.public()) {
            output::warn(format_args!(
                "trust bundle version {} does not list this key, and agents refuse what it signs; an admin adds it:\n  \
                 hubctl trust add-operator {} --key {key} --role ...",
                bundle.version, self.operator
            ));
        }
        if self.certificate.not_after <= now {
            output::warn("the certificate has ended; ask an admin for a token, then run: hubctl login TOKEN");
        }
    }
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}
