//! What the stacks of an account made, looked at in AWS: whether it is reachable, private, encrypted, and may do no more than it
//! should. It goes by what CloudFormation says that it made, and asks each service itself.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use serde_json::Value;

use super::{
    aws::{self, Error, ask},
    parameters::Parameters,
};

/// Of the agent's task, by `child/role.yaml`.
const AGENT_ROLE: &str = "sfdata-agent";
/// Services that run all the time, and stop nobody may.
const ALWAYS: [&str; 2] = ["agent", "hub"];

/// Questions at the same time: AWS throttles whoever asks faster.
const AT_ONCE: usize = 6;

/// What came of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// AWS did not tell.
    Unknown,
    /// It was not loaded so far.
    NotYet,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Right => "ok",
            Self::Wrong => "wrong",
            Self::Unknown => "unknown",
            Self::NotYet => "not yet",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// `stack`, `private`, `encrypted`, `permissions`, `reachable`; before loading `account`, `name`, `quota`, `image`, `hub`.
    pub(crate) area: &'static str,
    /// A stack, a bucket, a role.
    pub(crate) subject: String,
    pub(crate) verdict: Verdict,
    /// What it is, and where it is wrong what to do.
    pub(crate) found: String,
}

impl Finding {
    pub(crate) fn right(area: &'static str, subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self { area, subject: subject.into(), verdict: Verdict::Right, found: found.into() }
    }

    pub(crate) fn wrong(area: &'static str, subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self { area, subject: subject.into(), verdict: Verdict::Wrong, found: found.into() }
    }

    pub(crate) fn unknown(area: &'static str, subject: impl Into<String>, error: &Error) -> Self {
        let found = match error.is_denied() {
            true => format!("these credentials may not look: {error}"),
            false => error.to_string(),
        };
        Self { area, subject: subject.into(), verdict: Verdict::Unknown, found }
    }

    /// Right or wrong, by what is said of either.
    pub(crate) fn told(area: &'static str, subject: &str, holds: bool, right: &str, wrong: &str) -> Self {
        if holds { Self::right(area, subject, right) } else { Self::wrong(area, subject, wrong) }
    }
}

/// Physical ids of what stacks made, by type.
pub(crate) type Made = BTreeMap<String, Vec<String>>;

/// The state of each stack that the parameters ask for; what those that are there made, and which are not there.
pub(crate) async fn stacks(
    parameters: &Parameters,
    account: &str,
    findings: &mut Vec<Finding>,
) -> (Made, Vec<&'static str>) {
    let (mut made, mut missing) = (Made::new(), Vec::new());
    for stack in parameters.stacks() {
        let name = parameters.stack_name(stack, account);
        match aws::describe(&name).await {
            Ok(Some(said)) => {
                let status = said["StackStatus"].as_str().unwrap_or_default().to_owned();
                let events = format!("{status}: aws cloudformation describe-stack-events --stack-name {name}");
                let events = match status.as_str() {
                    "ROLLBACK_COMPLETE" => {
                        format!("{events}; then aws cloudformation delete-stack --stack-name {name}, and load it again")
                    }
                    _ => events,
                };
                findings.push(Finding::told("stack", &name, is_whole(&status), &status, &events));
                findings.extend(other_values(parameters, stack, &name, &said));
            }
            // The organisation's stack set may have made it in its place.
            Ok(None) if stack == "role" && ask(&["iam", "get-role", "--role-name", AGENT_ROLE]).await.is_ok() => {
                findings.push(Finding::right("stack", &name, format!("{AGENT_ROLE} is there, by the stack set")));
                made.entry("AWS::IAM::Role".into()).or_default().push(AGENT_ROLE.into());
                continue;
            }
            Ok(None) => {
                missing.push(stack);
                continue;
            }
            Err(error) => {
                findings.push(Finding::unknown("stack", &name, &error));
                continue;
            }
        }
        match ask(&["cloudformation", "describe-stack-resources", "--stack-name", &name]).await {
            Ok(said) => {
                for resource in list(&said, "StackResources") {
                    let [kind, id] = ["ResourceType", "PhysicalResourceId"].map(|key| text(resource, key));
                    made.entry(kind).or_default().push(id);
                }
            }
            Err(error) => findings.push(Finding::unknown("stack", &name, &error)),
        }
    }
    // Buckets that other templates made are looked at in the same way.
    for name in ["DataStore", "Workspace", "Shared", "Backup", "AccessLogs"] {
        if let Some(bucket) = parameters.get(name).filter(|bucket| !bucket.is_empty()) {
            made.entry("AWS::S3::Bucket".into()).or_default().push(bucket.into());
        }
    }
    (made, missing)
}

/// What the file says otherwise than the stack was loaded with.
fn other_values(parameters: &Parameters, stack: &str, name: &str, said: &Value) -> Vec<Finding> {
    let loaded: Vec<&Value> = list(said, "Parameters").collect();
    let given = parameters.given().iter().filter_map(|(parameter, value)| {
        let there = loaded.iter().find(|there| there["ParameterKey"] == parameter.as_str())?;
        let there = text(there, "ParameterValue");
        (there != *value).then(|| {
            let load = format!("deploy/load {} {} {stack}", parameters.place().name(), parameters.path().display());
            Finding::wrong(
                "stack",
                format!("{name} {parameter}"),
                format!("{there:?} is loaded, and the file says {value:?}: {load}"),
            )
        })
    });
    given.collect()
}

/// A stack that is as it was asked for.
fn is_whole(status: &str) -> bool {
    matches!(status, "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE")
}

/// Look at everything that they made, some at a time: each question starts the AWS command line once.
pub(crate) async fn look(made: &Made) -> Vec<Finding> {
    let all: Vec<(&str, &str)> =
        made.iter().flat_map(|(kind, ids)| ids.iter().map(move |id| (kind.as_str(), id.as_str()))).collect();
    let found = futures::stream::iter(all).map(|(kind, id)| one(kind, id)).buffered(AT_ONCE);
    found.collect::<Vec<_>>().await.concat()
}

async fn one(kind: &str, id: &str) -> Vec<Finding> {
    let found = match kind {
        "AWS::EC2::VPC" => network(id).await,
        "AWS::EC2::SecurityGroup" => security_group(id).await,
        "AWS::EC2::VPCEndpoint" => endpoint(id).await,
        "AWS::RDS::DBCluster" => cluster(id).await,
        "AWS::RDS::DBInstance" => instance(id).await,
        "AWS::EFS::FileSystem" => file_system(id).await,
        "AWS::S3::Bucket" => bucket(id).await,
        "AWS::IAM::Role" => role(id).await,
        "AWS::ECS::Service" => service(id).await,
        "AWS::ElasticLoadBalancingV2::LoadBalancer" => balancer(id).await,
        _ => return Vec::new(),
    };
    found.unwrap_or_else(|error| vec![Finding::unknown(area(kind), id, &error)])
}

/// What is looked for in a type of resource.
fn area(kind: &str) -> &'static str {
    match kind {
        "AWS::IAM::Role" => "permissions",
        "AWS::EC2::VPCEndpoint" | "AWS::ECS::Service" => "reachable",
        "AWS::EC2::VPC" | "AWS::EC2::SecurityGroup" | "AWS::ElasticLoadBalancingV2::LoadBalancer" => "private",
        _ => "encrypted",
    }
}

type Found = Result<Vec<Finding>, Error>;

async fn network(vpc: &str) -> Found {
    let filter = format!("Name=attachment.vpc-id,Values={vpc}");
    let gateways = ask(&["ec2", "describe-internet-gateways", "--filters", &filter]).await?;
    let filter = format!("Name=vpc-id,Values={vpc}");
    let tables = ask(&["ec2", "describe-route-tables", "--filters", &filter]).await?;
    let routes = list(&tables, "RouteTables").flat_map(|table| list(table, "Routes"));
    let out: Vec<_> =
        routes.filter(|route| leads_out(route)).map(|route| text(route, "DestinationCidrBlock")).collect();
    let open = list(&gateways, "InternetGateways").next().is_some() || !out.is_empty();
    let wrong = format!("there is a way to the internet ({}): no template makes one; take it away", out.join(", "));
    Ok(vec![Finding::told("private", vpc, !open, "no way to the internet", &wrong)])
}

/// Whether a route goes to the internet: through a gateway of it, or for every address that has no other, whatever it goes through.
fn leads_out(route: &Value) -> bool {
    let everything =
        text(route, "DestinationCidrBlock") == "0.0.0.0/0" || text(route, "DestinationIpv6CidrBlock") == "::/0";
    let through = |key: &str| !text(route, key).is_empty();
    everything
        || text(route, "GatewayId").starts_with("igw-")
        || through("NatGatewayId")
        || through("EgressOnlyInternetGatewayId")
}

async fn security_group(id: &str) -> Found {
    let said = ask(&["ec2", "describe-security-groups", "--group-ids", id]).await?;
    let rules = list(&said, "SecurityGroups").flat_map(|group| list(group, "IpPermissions"));
    let open = rules
        .flat_map(|rule| list(rule, "IpRanges").chain(list(rule, "Ipv6Ranges")))
        .any(|range| text(range, "CidrIp") == "0.0.0.0/0" || text(range, "CidrIpv6") == "::/0");
    let wrong = "it lets everybody in: no template does; take that rule away";
    Ok(vec![Finding::told("private", id, !open, "nobody outside is let in", wrong)])
}

async fn balancer(arn: &str) -> Found {
    let said = ask(&["elbv2", "describe-load-balancers", "--load-balancer-arns", arn]).await?;
    let internal = said.pointer("/LoadBalancers/0/Scheme").is_some_and(|scheme| *scheme == "internal");
    let name = arn.rsplit('/').nth(1).unwrap_or(arn);
    Ok(vec![Finding::told("private", name, internal, "internal", "it has public addresses: load its stack anew")])
}

async fn endpoint(id: &str) -> Found {
    let said = ask(&["ec2", "describe-vpc-endpoints", "--vpc-endpoint-ids", id]).await?;
    let endpoint = said.pointer("/VpcEndpoints/0").cloned().unwrap_or_default();
    let (state, service) = (text(&endpoint, "State"), text(&endpoint, "ServiceName"));
    let subject = format!("{id} ({service})");
    let wrong = format!("its state is {state}: the service has not let it in, or is gone");
    Ok(vec![Finding::told("reachable", &subject, state.eq_ignore_ascii_case("available"), "available", &wrong)])
}

async fn cluster(id: &str) -> Found {
    let said = ask(&["rds", "describe-db-clusters", "--db-cluster-identifier", id]).await?;
    Ok(encrypted(id, said.pointer("/DBClusters/0/StorageEncrypted")))
}

async fn instance(id: &str) -> Found {
    let said = ask(&["rds", "describe-db-instances", "--db-instance-identifier", id]).await?;
    let one = said.pointer("/DBInstances/0").cloned().unwrap_or_default();
    let public = one["PubliclyAccessible"] == true;
    let mut findings = encrypted(id, one.get("StorageEncrypted"));
    findings.push(Finding::told(
        "private",
        id,
        !public,
        "not public",
        "it is public: aws rds modify-db-instance --no-publicly-accessible",
    ));
    Ok(findings)
}

async fn file_system(id: &str) -> Found {
    let said = ask(&["efs", "describe-file-systems", "--file-system-id", id]).await?;
    Ok(encrypted(id, said.pointer("/FileSystems/0/Encrypted")))
}

fn encrypted(id: &str, is: Option<&Value>) -> Vec<Finding> {
    let holds = is.is_some_and(|is| *is == true);
    vec![Finding::told("encrypted", id, holds, "encrypted", "not encrypted: it has to be made anew from the template")]
}

async fn bucket(name: &str) -> Found {
    let shut = ask(&["s3api", "get-public-access-block", "--bucket", name]).await;
    let block = match shut {
        Ok(said) => said["PublicAccessBlockConfiguration"].clone(),
        Err(error) if error.is(&["NoSuchPublicAccessBlockConfiguration"]) => Value::Null,
        Err(error) => return Err(error),
    };
    let all = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
    let closed = all.iter().all(|key| block[key] == true);
    let sse = match ask(&["s3api", "get-bucket-encryption", "--bucket", name]).await {
        Ok(said) => said
            .pointer("/ServerSideEncryptionConfiguration/Rules/0/ApplyServerSideEncryptionByDefault/SSEAlgorithm")
            .and_then(Value::as_str)
            .map(String::from),
        Err(error) if error.is(&["ServerSideEncryptionConfigurationNotFoundError"]) => None,
        Err(error) => return Err(error),
    };
    let ensure = "hubctl s3 ensure puts it right";
    Ok(vec![
        Finding::told("private", name, closed, "closed to the public", &format!("not closed to the public: {ensure}")),
        match sse {
            Some(by) => Finding::right("encrypted", name, format!("encrypted, {by}")),
            None => Finding::wrong("encrypted", name, format!("nothing says how it is encrypted: {ensure}")),
        },
    ])
}

async fn role(name: &str) -> Found {
    let attached = ask(&["iam", "list-attached-role-policies", "--role-name", name]).await?;
    let mut wide = Vec::new();
    for arn in list(&attached, "AttachedPolicies").map(|policy| text(policy, "PolicyArn")) {
        match arn.starts_with("arn:aws:iam::aws:policy/") {
            true => wide.push(arn),
            false => wide.extend(wildcards(&managed(&arn).await?)),
        }
    }
    let inline = ask(&["iam", "list-role-policies", "--role-name", name]).await?;
    for policy in list(&inline, "PolicyNames").filter_map(Value::as_str) {
        let said = ask(&["iam", "get-role-policy", "--role-name", name, "--policy-name", policy]).await?;
        wide.extend(wildcards(&said["PolicyDocument"]));
    }
    Ok(vec![bounded(name, &wide)])
}

/// What a managed policy says.
async fn managed(arn: &str) -> Result<Value, Error> {
    let said = ask(&["iam", "get-policy", "--policy-arn", arn]).await?;
    let version = said.pointer("/Policy/DefaultVersionId").and_then(Value::as_str).unwrap_or_default();
    let said = ask(&["iam", "get-policy-version", "--policy-arn", arn, "--version-id", version]).await?;
    Ok(said["PolicyVersion"]["Document"].clone())
}

fn bounded(subject: &str, wide: &[String]) -> Finding {
    let wrong = format!("more than any template gives: {}; load its stack anew, or take that away", wide.join(", "));
    Finding::told("permissions", subject, wide.is_empty(), "bounded", &wrong)
}

/// Allowed actions with a wildcard.
fn wildcards(policy: &Value) -> Vec<String> {
    let several = |value: &Value| match value {
        Value::Array(parts) => parts.clone(),
        Value::Null => vec![],
        one => vec![one.clone()],
    };
    let allows = several(&policy["Statement"]).into_iter().filter(|statement| statement["Effect"] == "Allow");
    let actions = allows.flat_map(|statement| {
        let not = several(&statement["NotAction"])
            .into_iter()
            .map(|action| format!("NotAction {}", action.as_str().unwrap_or_default()));
        let wide = several(&statement["Action"]).into_iter().filter_map(|action| action.as_str().map(String::from));
        wide.filter(|action| action.contains('*')).chain(not).collect::<Vec<_>>()
    });
    actions.collect()
}

async fn service(arn: &str) -> Found {
    let mut parts = arn.rsplit('/');
    let (name, cluster) = (parts.next().unwrap_or(arn), parts.next().unwrap_or("sfdata"));
    let said = ask(&["ecs", "describe-services", "--cluster", cluster, "--services", name]).await?;
    let service = said.pointer("/services/0").cloned().unwrap_or_default();
    let count = |key: &str| service[key].as_i64().unwrap_or_default();
    let (desired, running) = (count("desiredCount"), count("runningCount"));
    let state = format!("{running} of {desired} tasks run");
    let wrong = format!(
        "{state}: aws ecs describe-services --cluster {cluster} --services {name} --query 'services[0].events'"
    );
    let wanted = if ALWAYS.contains(&name) { desired.max(1) } else { desired };
    let holds = service["status"] == "ACTIVE" && running >= wanted;
    Ok(vec![Finding::told("reachable", &format!("{cluster}/{name}"), holds, &state, &wrong)])
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

pub(super) fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wildcard_is_seen_wherever_it_stands() {
        let policy = |statement: Value| json!({ "Statement": statement });
        assert_eq!(wildcards(&policy(json!([{"Effect": "Allow", "Action": ["s3:GetObject", "s3:*"]}]))), ["s3:*"]);
        assert_eq!(wildcards(&policy(json!({"Effect": "Allow", "Action": "*"}))), ["*"]);
        assert_eq!(wildcards(&policy(json!([{"Effect": "Allow", "NotAction": "iam:*"}]))), ["NotAction iam:*"]);
        assert!(
            wildcards(&policy(json!([{"Effect": "Deny", "Action": "*"}, {"Effect": "Allow", "Action": "s3:Get"}])))
                .is_empty()
        );
    }

    #[test]
    fn only_a_gateway_leads_out() {
        assert!(leads_out(&json!({"GatewayId": "igw-1"})) && leads_out(&json!({"NatGatewayId": "nat-1"})));
        assert!(leads_out(&json!({"DestinationCidrBlock": "0.0.0.0/0", "TransitGatewayId": "tgw-1"})));
        assert!(!leads_out(&json!({"GatewayId": "local"})) && !leads_out(&json!({"GatewayId": "vpce-1"})));
    }
}
