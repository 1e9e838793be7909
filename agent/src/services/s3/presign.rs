//! URLs to one object each, signed with the agent's own credentials: the content never passes through us.
//!
//! Whoever has such a URL needs nothing else, so that it leaves this process sealed to the operator who asked, and is
//! written nowhere. What the agent's role may not do, or a quarantine forbids, the URL can't do either.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::{
    Client,
    config::RequestChecksumCalculation,
    presigning::{PresignedRequest, PresigningConfig},
};
use sfdata_common::{Timestamp, command::Object, error::chain, outcome::FailureCode};
use sfdata_proto::v1::{self as wire, action_result::Kind};

use super::S3;
use crate::{
    execute::Job,
    services::{Error, aws::failure},
};

impl S3 {
    pub(super) async fn upload_url(&self, object: &Object, job: &Job) -> Result<Kind, Error> {
        let bucket = self.own(object).await?;
        let (signer, ends) = self.signer().await?;
        let (now, good) = good_for(object.expires)?;
        let call = signer.put_object().bucket(bucket).key(&object.key);
        let tried = format!("sign a URL to upload to bucket {bucket}");
        let signed = call.presigned(good).await.map_err(|error| failure(tried, "s3:PutObject", error))?;
        answer(&signed, told(now + object.expires, ends), job)
    }

    pub(super) async fn download_url(&self, object: &Object, job: &Job) -> Result<Kind, Error> {
        let bucket = self.own(object).await?;
        let look = self.client.head_object().bucket(bucket).key(&object.key).expected_bucket_owner(self.owner().await?);
        // The key is not in the message: it may name a child.
        let tried = format!("look at that object of bucket {bucket}");
        look.send().await.map_err(|error| failure(tried, "s3:GetObject", error))?;
        let (signer, ends) = self.signer().await?;
        let (now, good) = good_for(object.expires)?;
        let tried = format!("sign a URL to download from bucket {bucket}");
        let call = signer.get_object().bucket(bucket).key(&object.key);
        let signed = call.presigned(good).await.map_err(|error| failure(tried, "s3:GetObject", error))?;
        answer(&signed, told(now + object.expires, ends), job)
    }

    /// A client that signs with credentials as they are now, and when these end: no URL outlives them.
    async fn signer(&self) -> Result<(Client, Option<Timestamp>), Error> {
        // The SDK would sign a checksum of the content, which whoever uploads is yet to bring.
        let config = self.client.config().to_builder();
        let mut config = config.request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        let credentials = self.aws.credentials().await?;
        let ends = credentials.as_ref().and_then(|credentials| Timestamp::try_from(credentials.expiry()?).ok());
        if let Some(credentials) = credentials {
            config = config.credentials_provider(credentials);
        }
        Ok((Client::from_conf(config.build()), ends))
    }

    /// The bucket's name, if it is there and the account's own: a URL can't say whose it has to be.
    async fn own(&self, object: &Object) -> Result<&str, Error> {
        let meant = self.meant(Some(object.bucket))?;
        let bucket = meant.first().map_or("", |(_, bucket)| bucket);
        if self.exists(object.bucket, bucket).await? {
            return Ok(bucket);
        }
        let role = object.bucket;
        let text = format!("bucket {bucket} ({role}) does not exist; make it: hubctl s3 ensure --bucket {role}");
        Err(Error::failed(FailureCode::NotFound, text))
    }
}

fn good_for(expires: Duration) -> Result<(Timestamp, PresigningConfig), Error> {
    let now = Timestamp::now();
    let good = PresigningConfig::builder().start_time(SystemTime::from(now)).expires_in(expires).build();
    let good = good.map_err(|error| Error::failed(FailureCode::Internal, chain(&error).to_string()))?;
    Ok((now, good))
}

fn told(signed: Timestamp, ends: Option<Timestamp>) -> Timestamp {
    ends.map_or(signed, |ends| ends.min(signed))
}

fn answer(signed: &PresignedRequest, expires: Timestamp, job: &Job) -> Result<Kind, Error> {
    let (method, url) = (signed.method().to_owned(), signed.uri().to_owned());
    job.reveal(Kind::S3Url(wire::S3UrlResult { method, url, expires_unix_ms: expires.as_millisecond() }))
}
