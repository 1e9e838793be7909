//! `hubctl login`: exchange an operator's join token for a certificate. The token pins the hub's CA and the root keys,
//! so that nobody is trusted on first use.

use std::{
    io,
    path::{self, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::json;
use sfdata_common::{
    channel,
    ids::OperatorName,
    join::{self, JoinToken, Subject},
    keys::{KeyFile, PublicKey, SigningKey, sha256},
    peer,
    tls::{self, Identity, Knows, TlsKey},
    trust::Bundle,
};
use sfdata_proto::v1::{
    EnrolRequest, EnrolResponse, EnrollingOperator, enrol_request, enrol_service_client::EnrolServiceClient,
};

use crate::{
    cli::Context,
    client,
    exit::Exit,
    output,
    profile::{self, Profile, Settings, own_signing_key_file},
    table::{Table, row},
};

/// Join a hub with an operator's token
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl login sfjoin_...              Token from an admin's `hubctl operators invite NAME`
  hubctl login - < token               Keep the token out of the shell's history
  hubctl --profile north login ...     One profile for each hub")]
pub(crate) struct Login {
    /// Token of the invitation; - reads it from stdin
    token: String,
    /// Signing key to use, instead of the profile's own; it stays where it is
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
}

impl Login {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let token = join::decode(&self.token()?)?;
        let Some(Subject::Operator(subject)) = &token.subject else {
            bail!("this token is for an agent; it belongs into the configuration of sfdata-agent");
        };
        let operator: OperatorName = subject.name.parse()?;
        // Everything that may fail here does so before the token is used up.
        profile::make_folder(&context.folder)?;
        let key = self.key(context).await?;
        let tls_key = TlsKey::generate()?;
        let answer = enrol(&token, &tls_key).await?;
        let (chain, bundle) = checked(&token, &operator, &answer, &tls_key)?;
        let unpinned = bundle.is_some() && token.root_pin.is_empty();
        let settings = Settings {
            address: context.hub.clone().unwrap_or_else(|| token.address.clone()),
            trust_domain: token.trust_domain,
            operator,
            signing_key: self.signing_key.map(path::absolute).transpose()?,
        };
        let profile = Profile::write(&context.folder, settings, &tls_key, &chain, answer.trust_bundle.as_ref())?;
        show(context, &profile, key, bundle.as_ref())?;
        if unpinned {
            output::warn(
                "the token is older than the first trust bundle and pins none; compare the root pin of \
                 `hubctl trust show` with an admin's",
            );
        }
        Ok(Exit::Done)
    }

    fn token(&self) -> anyhow::Result<String> {
        match self.token.as_str() {
            "-" => io::read_to_string(io::stdin()).context("cannot read the token from stdin"),
            token => Ok(token.to_owned()),
        }
    }

    /// The key that will sign commands: the one named, the one that is there, or a new one.
    async fn key(&self, context: &Context) -> anyhow::Result<PublicKey> {
        let own = own_signing_key_file(&context.folder);
        let path = match &self.signing_key {
            Some(path) => path,
            None if own.exists() => &own,
            None => return Ok(SigningKey::create(&own)?.public()),
        };
        match KeyFile::read(path)?.public() {
            Some(public) => Ok(public),
            None => Ok(context.keyring.open(path).await?.public()),
        }
    }
}

async fn enrol(token: &JoinToken, key: &TlsKey) -> anyhow::Result<EnrolResponse> {
    let tls = tls::client(None, Knows::Pin { ca: &token.ca_pin, trust_domain: &token.trust_domain })?;
    let mut hub = EnrolServiceClient::new(channel::open(&token.enrol_address, Arc::new(tls.into())));
    let request = EnrolRequest {
        secret: token.secret.clone(),
        csr_der: key.request()?.into(),
        subject: Some(enrol_request::Subject::Operator(EnrollingOperator {})),
    };
    Ok(client::ask(&token.enrol_address, "log in with this token", hub.enrol(request)).await?)
}

/// Chain and trust bundle, if they are what the token promised.
fn checked(
    token: &JoinToken,
    operator: &OperatorName,
    answer: &EnrolResponse,
    key: &TlsKey,
) -> anyhow::Result<(Vec<Vec<u8>>, Option<Bundle>)> {
    let chain: Vec<Vec<u8>> = answer.certificates.iter().map(|der| der.to_vec()).collect();
    let pinned = chain.get(1).is_some_and(|issuer| sha256(issuer).as_slice() == &token.ca_pin[..]);
    let peer = Identity::new(chain.clone(), key)?.peer().clone();
    ensure!(
        pinned && peer.subject == peer::Subject::Operator(operator.clone()) && peer.trust_domain == token.trust_domain,
        "the hub at {} answered with a certificate that the token does not promise; ask for a new token",
        token.enrol_address,
    );
    let pin = Some(&token.root_pin[..]).filter(|pin| !pin.is_empty());
    let bundle = match &answer.trust_bundle {
        Some(envelope) => Some(Bundle::verify_first(envelope, pin)?),
        None => None,
    };
    ensure!(
        bundle.is_some() || pin.is_none(),
        "the hub at {} keeps back the trust bundle that the token pins",
        token.enrol_address
    );
    ensure!(
        bundle.as_ref().is_none_or(|bundle| bundle.trust_domain == token.trust_domain),
        "the hub at {} answered with the trust bundle of another organisation",
        token.enrol_address
    );
    Ok((chain, bundle))
}

fn show(context: &Context, profile: &Profile, key: PublicKey, bundle: Option<&Bundle>) -> anyhow::Result<()> {
    let Settings { operator, address, trust_domain, .. } = &profile.settings;
    let listed = bundle.and_then(|bundle| bundle.operator_keys(operator).find(|listed| listed.key == key));
    let json = json!({
        "operator": operator.as_str(),
        "address": address,
        "trust_domain": trust_domain,
        "profile": context.folder,
        "signing_key": key.to_string(),
        "trust_version": bundle.map(|bundle| bundle.version),
        "may_sign": listed.is_some(),
    });
    let mut table = Table::card();
    table.push(row!["operator", operator]);
    table.push(row!["hub", address]);
    table.push(row!["profile", context.folder.display()]);
    table.push(row!["signing key", key]);
    context.output.data(&json, &[table])?;
    match (listed, bundle) {
        (Some(_), _) => output::note("logged in; the trust bundle lists this signing key"),
        (None, Some(_)) => output::note(format_args!(
            "logged in; to be heard, ask an admin for:\n  \
             hubctl trust add-operator {operator} --key {key} --role operator"
        )),
        (None, None) => output::note(format_args!(
            "logged in; the hub has no trust bundle yet, make its first one:\n  \
             hubctl trust init --help\n  hubctl trust add-operator {operator} --key {key} --role admin"
        )),
    }
    Ok(())
}
