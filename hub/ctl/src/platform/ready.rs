//! Whether an account is ready for stacks that are not there yet: the right account in the right organisation, names that nobody
//! has, quotas that are wide enough, images that can be pulled, and a way to the hub.

use serde_json::Value;

use super::{
    aws::{Error, ask},
    estate::{Estate, Made},
    installed::{Finding, Verdict, list, text},
    parameters::Parameters,
    templates::Place,
};

/// Every template puts things into two zones.
const ZONES: usize = 2;
/// Of the largest task of a run, which Dagster's own templates leave at 1 vCPU.
const RUN_VCPUS: f64 = 1.0;

/// A quota of AWS, by its service and code (Service Quotas, `list-aws-default-service-quotas`).
struct Quota {
    subject: &'static str,
    service: &'static str,
    code: &'static str,
}

const FARGATE: Quota = Quota { subject: "vCPUs of Fargate", service: "fargate", code: "L-3032A538" };
const SPOT: Quota = Quota { subject: "vCPUs of Fargate Spot", service: "fargate", code: "L-36FBB829" };
const VPCS: Quota = Quota { subject: "VPCs", service: "vpc", code: "L-F678F1CE" };
const ENDPOINTS: Quota = Quota { subject: "interface endpoints of a VPC", service: "vpc", code: "L-29B6F2EB" };

/// Look at everything that loading these stacks needs; nothing where all are there.
pub(crate) async fn look(parameters: &Parameters, account: &str, missing: &[&str]) -> anyhow::Result<Vec<Finding>> {
    let path = parameters.path().display();
    let unnamed = parameters.missing().into_iter().map(|name| match name {
        // The images come after the repositories.
        "HubImage" => Finding {
            area: "parameter",
            subject: name.into(),
            verdict: Verdict::NotYet,
            found: format!("once it is pushed, in {path}"),
        },
        _ => Finding::wrong("parameter", name, format!("it has no default: add a line {name}=... to {path}")),
    });
    let mut findings: Vec<Finding> = unnamed.collect();
    if missing.is_empty() || findings.iter().any(|finding| finding.verdict == Verdict::Wrong) {
        return Ok(findings);
    }
    let estate = Estate::new(parameters, account)?;
    let is_missing = |made: &Made| missing.contains(&made.stack);
    let loads = missing.iter().map(|stack| {
        let place = parameters.place().name();
        let load = format!("deploy/load {place} {} {stack}", parameters.path().display());
        let subject = parameters.stack_name(stack, account);
        Finding { area: "stack", subject, verdict: Verdict::NotYet, found: load }
    });
    findings.extend(loads);
    findings.push(whose(parameters, account));
    findings.push(zones().await);
    match parameters.place() {
        Place::Core => findings.push(organization(parameters).await),
        Place::Child if missing.contains(&"network") => findings.extend(way_to_the_hub(parameters).await),
        Place::Child => {}
    }
    for task in estate.made("AWS::ECS::TaskDefinition")?.iter().filter(|made| is_missing(made)) {
        for container in list(&task.properties, "ContainerDefinitions") {
            let image = text(container, "Image");
            // One that the file does not name is its parameter's name.
            if image.contains('/') && !findings.iter().any(|finding| finding.subject == shown(&image)) {
                findings.push(image_can_be_pulled(&image).await);
            }
        }
    }
    for bucket in estate.made("AWS::S3::Bucket")?.iter().filter(|made| is_missing(made)) {
        findings.push(free("bucket", &text(&bucket.properties, "BucketName")).await);
    }
    for role in estate.made("AWS::IAM::Role")?.iter().filter(|made| is_missing(made)) {
        let name = text(&role.properties, "RoleName");
        if !name.is_empty() && role.stack != "role" {
            findings.push(free("role", &name).await);
        }
    }
    findings.extend(quotas(parameters, &estate, missing).await?);
    Ok(findings)
}

fn whose(parameters: &Parameters, account: &str) -> Finding {
    let registry = parameters.get("HubImage").and_then(|image| image.split('.').next());
    match (parameters.place(), registry) {
        (Place::Core, Some(core)) if core != account => {
            let wrong =
                format!("these are credentials of {account}, and HubImage is in {core}: take the core account's");
            Finding::wrong("account", account, wrong)
        }
        (Place::Core, Some(_)) => Finding::right("account", account, "the core account"),
        (Place::Core, None) => Finding::right("account", account, "will be the core account"),
        (Place::Child, _) => {
            let la = parameters.get("LaName").unwrap_or("the LA");
            Finding::right("account", account, format!("will be {la}'s: compare it with what was registered"))
        }
    }
}

async fn zones() -> Finding {
    match ask(&["ec2", "describe-availability-zones"]).await {
        Ok(said) => {
            let open = list(&said, "AvailabilityZones").filter(|zone| text(zone, "State") == "available").count();
            let wrong = format!("{open}: the templates need {ZONES}");
            Finding::told("account", "availability zones", open >= ZONES, &open.to_string(), &wrong)
        }
        Err(error) => Finding::unknown("account", "availability zones", &error),
    }
}

async fn organization(parameters: &Parameters) -> Finding {
    let wanted = parameters.get("OrganizationId").unwrap_or_default();
    match ask(&["organizations", "describe-organization"]).await {
        Ok(said) => {
            let id = said.pointer("/Organization/Id").and_then(Value::as_str).unwrap_or_default();
            let wrong = format!("this account is in {id}: correct OrganizationId, or no LA will be let in");
            Finding::told("account", &format!("organisation {wanted}"), id == wanted, "this account is in it", &wrong)
        }
        Err(error) => Finding::unknown("account", format!("organisation {wanted}"), &error),
    }
}

async fn way_to_the_hub(parameters: &Parameters) -> Option<Finding> {
    let service = parameters.get("HubService").filter(|service| !service.is_empty())?;
    let subject = format!("service {service}");
    Some(match ask(&["ec2", "describe-vpc-endpoint-services", "--service-names", service]).await {
        Ok(_) => Finding::right("hub", subject, "this account may connect to it"),
        Err(Error::Refused { said, .. }) if said.contains("(InvalidServiceName)") => {
            let wrong = "this account does not see it: put it on AllowedPrincipals of the core's parameters and load its \
                         network, or correct HubService or the region";
            Finding::wrong("hub", subject, wrong)
        }
        Err(error) => Finding::unknown("hub", subject, &error),
    })
}

/// Without the registry.
fn shown(image: &str) -> String {
    image.split_once('/').map_or(image, |(_, rest)| rest).to_owned()
}

async fn image_can_be_pulled(image: &str) -> Finding {
    let subject = shown(image);
    let registry = image.split('.').next().unwrap_or_default();
    let (repository, id) = match (subject.split_once('@'), subject.split_once(':')) {
        (Some((repository, digest)), _) => (repository, format!("imageDigest={digest}")),
        (None, Some((repository, tag))) => (repository, format!("imageTag={tag}")),
        (None, None) => return Finding::wrong("image", subject, "it has neither tag nor digest"),
    };
    let words =
        ["ecr", "batch-get-image", "--registry-id", registry, "--repository-name", repository, "--image-ids", &id];
    match ask(&words).await {
        Ok(said) => {
            let there = list(&said, "images").next().is_some();
            let wrong = format!("account {registry} has no such image: push it, or correct the tag");
            Finding::told("image", &subject, there, "can be pulled", &wrong)
        }
        Err(error) if error.is(&["RepositoryNotFoundException"]) => {
            Finding::wrong("image", subject, format!("account {registry} has no such repository: load the core's ecr"))
        }
        Err(error) if error.is_denied() => {
            let wrong = format!(
                "account {registry} does not let these credentials pull it: is this account in the organisation of the core's ecr?"
            );
            Finding::wrong("image", subject, wrong)
        }
        Err(error) => Finding::unknown("image", subject, &error),
    }
}

/// Whether nobody has a name that a stack will give.
async fn free(kind: &str, name: &str) -> Finding {
    let subject = format!("{kind} {name}");
    let asked = match kind {
        "bucket" => ask(&["s3api", "head-bucket", "--bucket", name]).await,
        _ => ask(&["iam", "get-role", "--role-name", name]).await,
    };
    let ours = "it is there, and no stack of this installation made it: delete or rename it, or adopt what is there";
    match asked {
        Ok(_) => Finding::wrong("name", subject, ours),
        Err(error) if error.is(&["404", "NoSuchBucket", "NoSuchEntity"]) => Finding::right("name", subject, "free"),
        Err(error) if kind == "bucket" && error.is(&["403"]) => {
            Finding::wrong("name", subject, "another account has it; the names of buckets are the world's")
        }
        Err(error) => Finding::unknown("name", subject, &error),
    }
}

async fn quotas(parameters: &Parameters, estate: &Estate<'_>, missing: &[&str]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let tasks = estate.made("AWS::ECS::TaskDefinition")?;
    let vcpus: f64 =
        tasks.iter().filter_map(|task| text(&task.properties, "Cpu").parse::<f64>().ok()).sum::<f64>() / 1024.0;
    let at_once = parameters.get("RunsAtOnce").and_then(|runs| runs.parse().ok()).unwrap_or(0.0);
    if !tasks.is_empty() {
        // All of it at once, whichever part of it is on Spot.
        let needed = vcpus + at_once * RUN_VCPUS;
        findings.push(wide_enough(&FARGATE, needed, "one task of each kind and all runs that may run at once").await);
        findings.push(wide_enough(&SPOT, needed, "the same").await);
    }
    if missing.contains(&"network") && !estate.made("AWS::EC2::VPC")?.is_empty() {
        match ask(&["ec2", "describe-vpcs"]).await {
            Ok(said) => {
                let there = u32::try_from(list(&said, "Vpcs").count()).unwrap_or(u32::MAX);
                findings.push(wide_enough(&VPCS, f64::from(there) + 1.0, "those that are there, and one more").await);
            }
            Err(error) => findings.push(Finding::unknown("quota", VPCS.subject, &error)),
        }
        let endpoints = estate.made("AWS::EC2::VPCEndpoint")?;
        let interfaces = endpoints.iter().filter(|made| made.properties["VpcEndpointType"] == "Interface").count();
        let interfaces = u32::try_from(interfaces).unwrap_or(u32::MAX);
        findings.push(wide_enough(&ENDPOINTS, interfaces.into(), "those of the templates").await);
    }
    Ok(findings)
}

async fn wide_enough(quota: &Quota, needed: f64, why: &str) -> Finding {
    let asked = ["service-quotas", "get-service-quota", "--service-code", quota.service, "--quota-code", quota.code];
    match ask(&asked).await {
        Ok(said) => match said.pointer("/Quota/Value").and_then(Value::as_f64) {
            Some(value) => {
                let (service, code) = (quota.service, quota.code);
                let wrong = format!(
                    "{value}, and {needed} are needed ({why}): aws service-quotas request-service-quota-increase \
                     --service-code {service} --quota-code {code} --desired-value {}",
                    needed.ceil()
                );
                let right = format!("{value}, of which {needed} are needed ({why})");
                Finding::told("quota", quota.subject, value >= needed, &right, &wrong)
            }
            None => Finding {
                area: "quota",
                subject: quota.subject.into(),
                verdict: Verdict::Unknown,
                found: "AWS did not tell how many".into(),
            },
        },
        Err(error) => Finding::unknown("quota", quota.subject, &error),
    }
}
