//! The connection to the hub: who we are, how long we wait, and a certificate that renews itself.

use std::{fmt::Display, future::Future, sync::Arc, time::Duration};

use anyhow::bail;
use sfdata_common::{
    Timestamp,
    channel::{self, SharedTls},
    keys::SigningKey,
    peer::Peer,
    telemetry::traces::Tracer,
    tls::Identity,
};
use sfdata_proto::v1::{
    RenewRequest, operator_service_client::OperatorServiceClient, proposal_service_client::ProposalServiceClient,
    renewal_service_client::RenewalServiceClient,
};
use tonic::{Response, Status, codec::CompressionEncoding, transport::Channel};

use crate::{cli::Context, keyring::Keyring, output, profile::Profile, status};

/// An answer, or a stream's beginning, comes within this time: the hub writes to its disk once for it.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer: twelve thousand agents with their last health, some 4 KiB each.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A hub that a profile belongs to.
pub(crate) struct Hub {
    /// What the operator keeps for it.
    pub(crate) profile: Profile,
    /// Where a command's time goes.
    pub(crate) tracer: Tracer,
    /// What is ordered is only proposed.
    pub(crate) proposing: bool,
    keyring: Keyring,
    address: String,
    channel: Channel,
}

impl Hub {
    /// Open the profile and get ready to call; a certificate past half of its life is renewed first.
    pub(crate) async fn connect(context: &Context) -> anyhow::Result<Self> {
        let profile = Profile::open(&context.folder)?;
        let identity = profile.identity()?;
        let address = context.hub.clone().unwrap_or_else(|| profile.settings.address.clone());
        let tls = profile.tls(&identity)?;
        let channel = channel::open(&address, tls.clone());
        let (tracer, keyring) = (context.tracer.clone(), context.keyring.clone());
        let proposing = context.proposing.is_some();
        let hub = Self { profile, tracer, proposing, keyring, address, channel };
        match renewal(identity.peer(), Timestamp::now()) {
            Renewal::NotYet => {}
            Renewal::Due => hub.renew(&identity, &tls).await?,
            Renewal::Expired => bail!(
                "the certificate of {} expired on {}; ask an admin for `hubctl operators invite {}`, \
                 then run `hubctl login TOKEN`",
                identity.peer().subject,
                identity.peer().not_after.strftime("%Y-%m-%d"),
                hub.profile.settings.operator,
            ),
        }
        Ok(hub)
    }

    /// The key that signs commands; a person may be asked for its passphrase, once.
    pub(crate) async fn signing_key(&self) -> anyhow::Result<Arc<SigningKey>> {
        Ok(self.keyring.open(&self.profile.signing_key_file()?).await?)
    }

    /// The service that operators call.
    pub(crate) fn operator(&self) -> OperatorServiceClient<Channel> {
        OperatorServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// The same for answers that have the whole fleet in them, which are packed on their way: a tenth of the bytes.
    pub(crate) fn fleet(&self) -> OperatorServiceClient<Channel> {
        self.operator().accept_compressed(CompressionEncoding::Gzip)
    }

    /// The service for commands that wait for a second operator.
    pub(crate) fn proposals(&self) -> ProposalServiceClient<Channel> {
        ProposalServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// The connection itself, for what is no gRPC.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Wait for a call's answer, or for the first of a stream, and not for ever.
    pub(crate) async fn ask<T>(
        &self,
        tried: impl Display,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, status::Error> {
        ask(&self.address, tried, call).await
    }

    /// What a status of this hub means.
    pub(crate) fn words(&self, tried: impl Display, status: &Status) -> status::Error {
        status::Error::from_status(tried, &self.address, status)
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    async fn renew(&self, identity: &Identity, tls: &SharedTls) -> anyhow::Result<()> {
        let request = RenewRequest { csr_der: self.profile.tls_key()?.request()?.into() };
        let mut renewals = RenewalServiceClient::new(self.channel.clone());
        let chain = match self.ask("renew the certificate", renewals.renew(request)).await {
            Ok(response) => response.certificates,
            Err(error @ (status::Error::Busy { .. } | status::Error::Fault { .. })) => {
                // The old one is still good; the next call tries again.
                output::warn(format_args!("{error} (it is valid until {})", identity.peer().not_after));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let chain: Vec<Vec<u8>> = chain.into_iter().map(|der| der.to_vec()).collect();
        let renewed = Identity::new(chain.clone(), &self.profile.tls_key()?)?;
        if renewed.peer().subject != identity.peer().subject || chain.len() < 2 {
            bail!("the hub at {} answered the renewal with a certificate of {}", self.address, renewed.peer().subject);
        }
        self.profile.replace_chain(&chain)?;
        tls.store(self.profile.tls(&renewed)?.load_full());
        Ok(())
    }
}

/// [`Hub::ask`] of a hub that there is no profile for yet.
pub(crate) async fn ask<T>(
    address: &str,
    tried: impl Display,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, status::Error> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status::Error::from_status(tried, address, &status)),
        Err(_) => {
            Err(status::Error::Late { tried: tried.to_string(), address: address.to_owned(), waited: CALL_TIMEOUT })
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Renewal {
    NotYet,
    Due,
    Expired,
}

/// From when on a call renews the certificate first: half of its life.
pub(crate) fn renews(peer: &Peer) -> Timestamp {
    peer.not_before + peer.not_after.duration_since(peer.not_before) / 2
}

fn renewal(peer: &Peer, now: Timestamp) -> Renewal {
    if now >= peer.not_after {
        Renewal::Expired
    } else if now >= renews(peer) {
        Renewal::Due
    } else {
        Renewal::NotYet
    }
}

#[cfg(test)]
mod tests {
    use sfdata_common::peer::Subject;

    use super::*;

    #[test]
    fn a_certificate_is_renewed_from_half_of_its_life() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let peer = Peer {
            trust_domain: "sfdata.example".into(),
            subject: Subject::Operator("alice".parse().unwrap()),
            not_before: at(1_000),
            not_after: at(2_000),
        };
        assert_eq!(renewal(&peer, at(1_499)), Renewal::NotYet);
        assert_eq!(renewal(&peer, at(1_500)), Renewal::Due);
        assert_eq!(renewal(&peer, at(1_999)), Renewal::Due);
        assert_eq!(renewal(&peer, at(2_000)), Renewal::Expired);
    }
}
