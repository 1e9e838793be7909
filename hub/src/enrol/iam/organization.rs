//! Whether an account is one of the organisation's, asked of AWS Organizations with the hub's own role. Where the configuration
//! names an organisation, an account of which that is not known is not let in.

use aws_sdk_organizations::{Client, operation::describe_account::DescribeAccountError, types::AccountStatus};
use sfdata_common::{error::chain, limits};
use tokio::sync::OnceCell;

use crate::{aws::Place, config};

/// Organizations is a global service, whose endpoint is there (AWS General Reference, "AWS Organizations endpoints").
const REGION: &str = "us-east-1";
const TRIES: u32 = 3;

/// Why it is not known to be one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// AWS knows, and says no.
    #[error(
        "account {account} is not in the organisation {organization}, whose accounts alone may join (enrol.aws organization)"
    )]
    Foreign {
        /// Which account.
        account: String,
        /// Of the configuration.
        organization: String,
    },
    /// It is one, and is closed or suspended.
    #[error("account {account} is in the organisation and is not active: AWS tells {status}")]
    Inactive {
        /// Which account.
        account: String,
        /// As AWS tells.
        status: String,
    },
    /// Not known.
    #[error(
        "AWS Organizations does not tell whether account {account} is in {organization}: {why}. The hub's role needs \
         organizations:DescribeAccount (deploy/iam/hub-organization.json) in the management account or a delegated \
         administrator's"
    )]
    Unknown {
        /// Which account.
        account: String,
        /// Of the configuration.
        organization: String,
        /// What AWS said.
        why: String,
    },
}

/// An organisation, and how to ask about it.
pub(super) struct Organization {
    id: String,
    settings: config::Aws,
    client: OnceCell<Client>,
}

impl Organization {
    /// The one that the configuration names. Nothing is asked yet.
    pub(super) fn new(settings: &config::Aws) -> Option<Self> {
        let id = settings.organization.clone()?;
        Some(Self { id, settings: settings.clone(), client: OnceCell::new() })
    }

    async fn client(&self) -> &Client {
        let make = async || {
            let place = Place {
                region: REGION,
                endpoint_url: self.settings.endpoint_url.as_deref(),
                credentials_file: self.settings.credentials_file.as_deref(),
            };
            Client::new(&place.config(TRIES, limits::STS_CALL).await)
        };
        self.client.get_or_init(make).await
    }

    /// Nothing, if this account is an active one of the organisation.
    pub(super) async fn has(&self, account: &str) -> Result<(), Error> {
        let foreign = || Error::Foreign { account: account.to_owned(), organization: self.id.clone() };
        let unknown = |why: String| Error::Unknown { account: account.to_owned(), organization: self.id.clone(), why };
        let asked = self.client().await.describe_account().account_id(account).send().await;
        let told = asked.map_err(|error| match error.into_service_error() {
            DescribeAccountError::AccountNotFoundException(_) => foreign(),
            other => unknown(chain(&other).to_string()),
        })?;
        let told = told.account.ok_or_else(|| unknown("its answer names no account".into()))?;
        // arn:aws:organizations::MANAGEMENT:account/ORGANISATION/ACCOUNT (Organizations API reference, "Account").
        let place = told.arn.as_deref().and_then(|arn| arn.split_once(":account/"));
        if place.is_none_or(|(_, place)| place != format!("{}/{account}", self.id)) {
            return Err(foreign());
        }
        match told.status {
            Some(AccountStatus::Active) => Ok(()),
            status => Err(Error::Inactive {
                account: account.to_owned(),
                status: status.map_or_else(|| "nothing".into(), |status| status.as_str().to_owned()),
            }),
        }
    }
}
