//! Images that the account's own registry holds, in the repositories that the configuration names: what there is, and which
//! one has a release's tag. A tag that was given stays where it is, whether or not ECR was told to see to that.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use aws_sdk_ecr::{
    Client,
    config::Region,
    error::{ProvideErrorMetadata, SdkError},
    operation::batch_get_image::BatchGetImageOutput,
    types::{FindingSeverity, ImageDetail, ImageFailureCode, ImageIdentifier},
};
use serde::Deserialize;
use sfdata_common::{command, limits, outcome::FailureCode};
use sfdata_proto::v1::{self as wire, action_result::Kind};

use super::{
    Error, Plan,
    aws::{Aws, client, failure},
    ecr::MEDIA_TYPES,
};
use crate::{config, execute::Job};

/// Media types of what lists an image for each of several platforms: the first of OCI's and of Docker's.
const INDEXES: [&str; 2] = [MEDIA_TYPES[0], MEDIA_TYPES[2]];
/// BatchGetImage takes so many (ECR API reference).
const IMAGES_PER_CALL: usize = 100;
/// DescribeImages gives so many (ECR API reference).
const IMAGES_PER_PAGE: i32 = 1_000;

/// The account's own registry.
#[derive(Debug, Clone)]
pub struct Images {
    client: Client,
    region: String,
    repositories: Arc<[String]>,
}

/// What an index says of its parts.
#[derive(Debug, Default, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Part {
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl Platform {
    /// `linux/arm64`; none of what only tells of another part, such as where it was built.
    fn shown(&self) -> Option<String> {
        let Self { os, architecture, variant } = self;
        if os.is_empty() || os == "unknown" {
            return None;
        }
        Some(
            [os, architecture, variant]
                .into_iter()
                .filter(|part| !part.is_empty())
                .cloned()
                .collect::<Vec<_>>()
                .join("/"),
        )
    }
}

impl Images {
    pub(super) fn new(aws: &Aws) -> Self {
        let region = aws.config().region().map(Region::to_string).unwrap_or_default();
        Self { client: client!(aws, aws_sdk_ecr), region, repositories: Arc::default() }
    }

    /// With the repositories of this configuration.
    pub(super) fn of(mut self, settings: &config::Images) -> Self {
        self.repositories = settings.repositories.clone().into();
        self
    }

    /// Do what was ordered.
    pub async fn execute(&self, action: &command::Images, job: &Job) -> Result<Kind, Error> {
        match action {
            command::Images::List { repository } => tokio::select! {
                biased;
                () = job.cancelled().cancelled() => Err(Error::cancelled("nothing was read yet")),
                list = self.list(repository.as_deref()) => list,
            },
            command::Images::Promote { repository, digest, tag } => self.promote(repository, digest, tag, job).await,
        }
    }

    /// The repositories that are meant: this one, or all.
    fn meant(&self, asked: Option<&str>) -> Result<Vec<&str>, Error> {
        if self.repositories.is_empty() {
            let text = "this agent is given no repositories of images: name those of its account in its configuration, as \
                        in [images] repositories = [\"sfdata/dagster\"]; the core account's agent has them";
            return Err(Error::failed(FailureCode::Rejected, text));
        }
        let meant: Vec<_> = self
            .repositories
            .iter()
            .map(String::as_str)
            .filter(|name| asked.is_none_or(|asked| asked == *name))
            .collect();
        match (asked, meant.is_empty()) {
            (Some(asked), true) => Err(Error::failed(
                FailureCode::NotFound,
                format!(
                    "{asked} is none of the repositories in this agent's [images], which are {}; order one of these",
                    self.repositories.join(", ")
                ),
            )),
            _ => Ok(meant),
        }
    }

    async fn list(&self, asked: Option<&str>) -> Result<Kind, Error> {
        let (mut registry, mut repositories) = (String::new(), Vec::new());
        for name in self.meant(asked)? {
            let details = self.details(name).await?;
            if let Some(id) = details.iter().find_map(ImageDetail::registry_id) {
                registry = self.registry(id);
            }
            let indexes = self.indexes(name, &details).await?;
            repositories.push(told(name, &details, &indexes));
        }
        Ok(Kind::ImagesList(wire::ImagesListResult { registry, repositories }))
    }

    fn registry(&self, account: &str) -> String {
        format!("{account}.dkr.ecr.{}.amazonaws.com", self.region)
    }

    /// Everything in a repository.
    async fn details(&self, name: &str) -> Result<Vec<ImageDetail>, Error> {
        let (mut details, mut next) = (Vec::new(), None);
        loop {
            let call = self.client.describe_images().repository_name(name).max_results(IMAGES_PER_PAGE);
            let page = call.set_next_token(next).send().await.map_err(|e| failed("list the images of", name, e))?;
            details.extend(page.image_details.unwrap_or_default());
            next = page.next_token.filter(|_| details.len() < limits::IMAGES_READ);
            if next.is_none() {
                return Ok(details);
            }
        }
    }

    /// What the images for several platforms list, by their digests. One that is gone meanwhile is not there.
    async fn indexes(&self, name: &str, details: &[ImageDetail]) -> Result<HashMap<String, Vec<Part>>, Error> {
        let is_index =
            |detail: &&ImageDetail| detail.image_manifest_media_type().is_some_and(|of| INDEXES.contains(&of));
        let digests: Vec<&str> = details.iter().filter(is_index).filter_map(ImageDetail::image_digest).collect();
        let mut indexes = HashMap::with_capacity(digests.len());
        for some in digests.chunks(IMAGES_PER_CALL) {
            let ids = some.iter().map(|digest| ImageIdentifier::builder().image_digest(*digest).build());
            for image in self.get(name, ids.collect()).await?.images() {
                let digest = image.image_id().and_then(ImageIdentifier::image_digest);
                let index = image.image_manifest().and_then(|text| serde_json::from_str::<Index>(text).ok());
                if let (Some(digest), Some(index)) = (digest, index) {
                    indexes.insert(digest.to_owned(), index.manifests);
                }
            }
        }
        Ok(indexes)
    }

    async fn get(&self, name: &str, ids: Vec<ImageIdentifier>) -> Result<BatchGetImageOutput, Error> {
        let call = self.client.batch_get_image().repository_name(name).set_image_ids(Some(ids));
        let call = call.set_accepted_media_types(Some(MEDIA_TYPES.map(Into::into).to_vec()));
        call.send().await.map_err(|e| failed("read images of", name, e))
    }

    /// The digest of the image that has this tag.
    async fn tagged(&self, name: &str, tag: &str) -> Result<Option<String>, Error> {
        let answer = self.get(name, vec![ImageIdentifier::builder().image_tag(tag).build()]).await?;
        let found = answer.images().iter().find_map(|image| image.image_id()?.image_digest()).map(Into::into);
        match answer.failures().first().and_then(|failed| failed.failure_code()) {
            None | Some(ImageFailureCode::ImageNotFound) => Ok(found),
            Some(other) => {
                let text =
                    format!("ECR does not tell which image of {name} has tag {tag}: {}; try again", other.as_str());
                Err(Error::failed(FailureCode::Unavailable, text))
            }
        }
    }

    /// Whether it has the tag already; an error where another image has it.
    async fn has(&self, name: &str, digest: &str, tag: &str) -> Result<bool, Error> {
        match self.tagged(name, tag).await? {
            Some(other) if other != digest => Err(Error::failed(
                FailureCode::Conflict,
                format!(
                    "tag {tag} of {name} is that of {other}, and is not taken from it: what was released under it stays \
                     what it is; take another tag"
                ),
            )),
            found => Ok(found.is_some()),
        }
    }

    async fn promote(&self, asked: &str, digest: &str, tag: &str, job: &Job) -> Result<Kind, Error> {
        let name = self.meant(Some(asked))?.first().copied().unwrap_or_default();
        let answer = self.get(name, vec![ImageIdentifier::builder().image_digest(digest).build()]).await?;
        let image = answer.images().iter().find(|image| image.image_manifest().is_some()).ok_or_else(|| {
            let text = format!("{name} has no image {digest}; see what there is with hubctl images list, or push it");
            Error::failed(FailureCode::NotFound, text)
        })?;
        let has = self.has(name, digest, tag).await?;
        let before = if has { digest } else { "" };
        let plan = Plan::default().change(format!("ecr-repository {name}"), format!("tag {tag}"), before, digest);
        if let Some(answer) = job.agree(plan).await? {
            return Ok(answer);
        }
        if !has {
            job.progress(format!("giving {name}@{digest} the tag {tag}"), None);
            let call = self
                .client
                .put_image()
                .repository_name(name)
                .image_digest(digest) // ECR refuses a manifest that is another one's
                .set_image_manifest(image.image_manifest().map(Into::into))
                .set_image_manifest_media_type(image.image_manifest_media_type().map(Into::into))
                .image_tag(tag);
            match call.send().await {
                Ok(_) => {}
                // By an earlier try whose answer was lost, or by somebody else meanwhile.
                Err(error)
                    if error.as_service_error().is_some_and(|error| {
                        error.is_image_already_exists_exception() || error.is_image_tag_already_exists_exception()
                    }) && self.has(name, digest, tag).await? => {}
                Err(error) => {
                    let tried = format_args!("give {name}@{digest} the tag {tag}");
                    return Err(failure(tried, "ecr:PutImage", error));
                }
            }
        }
        let registry = self.registry(image.registry_id().unwrap_or_default());
        Ok(Kind::ImagesPromote(wire::ImagesPromoteResult {
            image: format!("{registry}/{name}@{digest}"),
            tag: tag.into(),
        }))
    }
}

/// What went wrong in a look at a repository.
fn failed<E>(tried: &str, name: &str, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if error.code() == Some("RepositoryNotFoundException") {
        let text = format!(
            "this account has no repository {name}, which the agent's [images] names; make it (deploy/cloudformation), or \
             correct the configuration"
        );
        return Error::failed(FailureCode::NotFound, text);
    }
    failure(format_args!("{tried} {name}"), "ecr:DescribeImages and ecr:BatchGetImage", error)
}

/// The images of a repository, the newest first. Where there are too many, those without a tag are left out before others.
fn told(name: &str, details: &[ImageDetail], indexes: &HashMap<String, Vec<Part>>) -> wire::ImageRepository {
    let by_digest: HashMap<&str, &ImageDetail> =
        details.iter().filter_map(|detail| Some((detail.image_digest()?, detail))).collect();
    let is_part = |digest: &str| indexes.values().flatten().any(|part| part.digest == digest);
    let mut images: Vec<_> = by_digest
        .iter()
        .filter(|(digest, detail)| !detail.image_tags().is_empty() || !is_part(digest))
        .map(|(digest, detail)| image(digest, detail, indexes.get(*digest), &by_digest))
        .collect();
    let newest = |image: &wire::RegistryImage| (Reverse(image.pushed_unix_ms), image.digest.clone());
    images.sort_by_key(|image| (image.tags.is_empty(), newest(image)));
    let left_out = images.len().saturating_sub(limits::IMAGES_PER_REPOSITORY);
    images.truncate(limits::IMAGES_PER_REPOSITORY);
    images.sort_by_key(newest);
    wire::ImageRepository { name: name.into(), images, left_out: left_out.try_into().unwrap_or(u32::MAX) }
}

fn image(
    digest: &str,
    detail: &ImageDetail,
    parts: Option<&Vec<Part>>,
    all: &HashMap<&str, &ImageDetail>,
) -> wire::RegistryImage {
    let parts = parts.map_or(&[][..], |parts| &parts[..]);
    let mut platforms: Vec<String> =
        parts.iter().filter_map(|part| part.platform.as_ref()?.shown()).take(limits::IMAGE_TAGS).collect();
    platforms.sort();
    platforms.dedup();
    let of_parts = parts.iter().filter_map(|part| all.get(&*part.digest)).copied();
    let sizes = of_parts.clone().chain([detail]).filter_map(ImageDetail::image_size_in_bytes);
    let mut tags = detail.image_tags().to_vec();
    tags.sort();
    tags.truncate(limits::IMAGE_TAGS);
    wire::RegistryImage {
        digest: digest.into(),
        tags,
        pushed_unix_ms: detail.image_pushed_at().map(millis).unwrap_or_default(),
        size_bytes: sizes.max().and_then(|size| size.try_into().ok()).unwrap_or_default(),
        platforms,
        findings: of_parts.chain([detail]).filter_map(findings).reduce(worst),
    }
}

fn millis(time: &aws_sdk_ecr::primitives::DateTime) -> i64 {
    time.to_millis().unwrap_or_default()
}

fn findings(detail: &ImageDetail) -> Option<wire::ImageFindings> {
    let summary = detail.image_scan_findings_summary()?;
    let counts = summary.finding_severity_counts()?;
    let of = |severity: FindingSeverity| counts.get(&severity).and_then(|n| (*n).try_into().ok()).unwrap_or_default();
    Some(wire::ImageFindings {
        scanned_unix_ms: summary.image_scan_completed_at().map(millis).unwrap_or_default(),
        critical: of(FindingSeverity::Critical),
        high: of(FindingSeverity::High),
        medium: of(FindingSeverity::Medium),
        low: of(FindingSeverity::Low),
        informational: of(FindingSeverity::Informational),
        undefined: of(FindingSeverity::Undefined),
    })
}

/// The most of both, as of the older scan.
fn worst(one: wire::ImageFindings, other: wire::ImageFindings) -> wire::ImageFindings {
    wire::ImageFindings {
        scanned_unix_ms: one.scanned_unix_ms.min(other.scanned_unix_ms),
        critical: one.critical.max(other.critical),
        high: one.high.max(other.high),
        medium: one.medium.max(other.medium),
        low: one.low.max(other.low),
        informational: one.informational.max(other.informational),
        undefined: one.undefined.max(other.undefined),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecr::{primitives::DateTime, types::ImageScanFindingsSummary};

    use super::*;

    fn detail(digest: &str, tags: &[&str], pushed: i64, critical: Option<i32>) -> ImageDetail {
        let summary = critical.map(|count| {
            ImageScanFindingsSummary::builder().finding_severity_counts(FindingSeverity::Critical, count).build()
        });
        ImageDetail::builder()
            .image_digest(digest)
            .set_image_tags(Some(tags.iter().map(ToString::to_string).collect()))
            .image_pushed_at(DateTime::from_secs(pushed))
            .image_size_in_bytes(pushed * 10)
            .set_image_scan_findings_summary(summary)
            .build()
    }

    fn part(digest: &str, os: &str, architecture: &str) -> Part {
        let platform = Platform { os: os.into(), architecture: architecture.into(), variant: String::new() };
        Part { digest: digest.into(), platform: Some(platform) }
    }

    #[test]
    fn parts_stand_in_their_image_with_the_worst_of_their_findings() {
        let details = [
            detail("i", &["1"], 9, None),
            detail("a", &[], 8, Some(2)),
            detail("b", &[], 7, Some(5)),
            detail("x", &[], 1, None),
        ];
        let parts = vec![part("b", "linux", "arm64"), part("a", "linux", "amd64"), part("y", "unknown", "unknown")];
        let told = told("r", &details, &HashMap::from([("i".to_owned(), parts)]));
        let [index, alone] = told.images.try_into().unwrap();
        assert_eq!((&*index.digest, &*alone.digest), ("i", "x"));
        assert_eq!(index.platforms, ["linux/amd64", "linux/arm64"]);
        assert_eq!((index.findings.unwrap().critical, index.size_bytes), (5, 90));
        assert_eq!(alone.findings, None);
    }

    #[test]
    fn what_has_a_tag_is_told_before_what_has_none() {
        let most = limits::IMAGES_PER_REPOSITORY;
        let mut details: Vec<_> = (0..most).map(|n| detail(&format!("d{n}"), &[], 100 + n as i64, None)).collect();
        details.push(detail("old", &["1"], 1, None));
        let told = told("r", &details, &HashMap::new());
        assert_eq!((told.images.len(), told.left_out), (most, 1));
        assert_eq!(told.images.last().unwrap().digest, "old");
        assert!(!told.images.iter().any(|image| image.digest == "d0"), "the oldest without a tag");
    }
}
