//! Images in ECR, as this account may see them. They lie in another account's registry, whose repository policy decides:
//! asked is with the call that a pull makes first.

use aws_sdk_ecr::{
    Client, Config,
    config::Region,
    types::{ImageFailureCode, ImageIdentifier},
};
use sfdata_common::{
    image::{Image, Repository},
    outcome::FailureCode,
};

use super::{
    Error,
    aws::{Aws, client, failure},
};

/// What an image may be described by: without these, ECR may answer for one platform's part of it, with another digest.
pub(super) const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// The registries.
#[derive(Debug, Clone)]
pub struct Ecr {
    client: Client,
}

impl Ecr {
    pub(super) fn new(aws: &Aws) -> Self {
        Self { client: client!(aws, aws_sdk_ecr) }
    }

    /// That there is this image, and that this account may have it.
    pub(super) async fn check(&self, image: &Image) -> Result<(), Error> {
        let Image { repository, digest } = image;
        self.find(repository, digest, ImageIdentifier::builder().image_digest(digest)).await.map(|_| ())
    }

    /// The image that a tag means now.
    pub(super) async fn resolve(&self, repository: &Repository, tag: &str) -> Result<Image, Error> {
        let digest = self.find(repository, tag, ImageIdentifier::builder().image_tag(tag)).await?;
        Ok(Image { repository: repository.clone(), digest })
    }

    /// The tags that an image has now.
    pub(super) async fn tags(&self, repository: &Repository, digest: &str) -> Result<Vec<String>, Error> {
        let call = self
            .client
            .describe_images()
            .registry_id(&repository.registry)
            .repository_name(&repository.name)
            .image_ids(ImageIdentifier::builder().image_digest(digest).build());
        let there = Config::builder().region(Region::new(repository.region.clone()));
        let answer =
            call.customize().config_override(there).send().await.map_err(|e| {
                failure(format_args!("read the tags of {digest} in {repository}"), "ecr:DescribeImages", e)
            })?;
        Ok(answer.image_details().iter().flat_map(|image| image.image_tags().iter().cloned()).collect())
    }

    async fn find(
        &self,
        repository: &Repository,
        shown: &str,
        id: aws_sdk_ecr::types::builders::ImageIdentifierBuilder,
    ) -> Result<String, Error> {
        let call = self
            .client
            .batch_get_image()
            .registry_id(&repository.registry)
            .repository_name(&repository.name)
            .image_ids(id.build())
            .set_accepted_media_types(Some(MEDIA_TYPES.map(Into::into).to_vec()));
        let there = Config::builder().region(Region::new(repository.region.clone()));
        let answer = call
            .customize()
            .config_override(there)
            .send()
            .await
            .map_err(|e| failure(format_args!("find image {shown} in {repository}"), "ecr:BatchGetImage", e))?;
        let digest = answer.images().iter().find_map(|image| image.image_id()?.image_digest());
        digest.map(Into::into).ok_or_else(|| {
            let why = answer.failures().first().and_then(|failed| failed.failure_code());
            Error::failed(
                FailureCode::NotFound,
                format!(
                    "{repository} has no image {shown} that this account can see ({}); push it, or order one that is \
                     there",
                    why.map_or("no reason given", ImageFailureCode::as_str)
                ),
            )
        })
    }
}
