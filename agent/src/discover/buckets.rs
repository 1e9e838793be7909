//! What a bucket is for: from the variables of the platform's containers, the buckets' tags, and the stacks that made them.
//!
//! Pure. What the containers are told outranks what templates call a bucket. A bucket's own name decides nothing,
//! and a bucket for logs or state is none of the platform's. A backup is told only where nothing speaks of a database.

use std::collections::BTreeSet;

use sfdata_common::discovery::Candidate;

use super::{Account, Bucket, Service, words};

/// The roles that a configuration knows, with its keys.
pub(super) const ROLES: [(&str, Role); 4] = [
    ("platform.buckets.data_store", Role::DataStore),
    ("platform.buckets.workspace", Role::Workspace),
    ("platform.buckets.shared", Role::Shared),
    ("platform.buckets.backup", Role::Backup),
];

/// What a bucket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Where the LA uploads.
    DataStore,
    /// Between the steps of a pipeline.
    Workspace,
    /// What the core account may read.
    Shared,
    /// Where the others are copied to; a platform need not have one.
    Backup,
}

/// One thing that speaks for a role of a bucket.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) role: Role,
    pub(super) bucket: &'a str,
    pub(super) why: String,
    /// Whether the platform's own containers say it.
    own: bool,
}

/// Everything that speaks for a role of any bucket. `services` are those of the platform.
pub(super) fn evidence<'a>(account: &'a Account, services: &[&Service]) -> Vec<Evidence<'a>> {
    let mut found = Vec::new();
    for bucket in &account.buckets {
        let name = bucket.name.as_str();
        let mut add = |own, text: &str, why: String| {
            found.extend(spoken_of(text).map(|role| Evidence { role, bucket: name, why, own }));
        };
        for (service, variable) in named_by(services, bucket) {
            add(true, variable, format!("variable {variable} of service {service} names it"));
        }
        for (key, value) in &bucket.tags {
            match key.as_str() {
                "aws:cloudformation:logical-id" => add(false, value, format!("CloudFormation calls it {value}")),
                key if key.starts_with("aws:") => {}
                _ => add(false, value, format!("its tag {key} is {value}")),
            }
        }
        if let Some((stack, logical)) = account.made_by(name, &format!("arn:aws:s3:::{name}")) {
            add(false, logical, format!("stack {} calls it {logical}", stack.name));
        }
        for stack in &account.stacks {
            for (key, _) in stack.outputs.iter().filter(|(_, value)| names(value, name)) {
                add(false, key.trim_end_matches("Output"), format!("output {key} of stack {} names it", stack.name));
            }
        }
    }
    found
}

/// The one bucket of a role, or those between which a person has to choose.
pub(super) fn choose<'a>(evidence: &[Evidence<'a>], role: Role) -> Result<Option<&'a str>, Vec<Candidate>> {
    let own = evidence.iter().any(|one| one.role == role && one.own);
    let taken = |bucket: &str| evidence.iter().any(|one| one.bucket == bucket && one.role != role && one.own && !own);
    let counts = |one: &&Evidence| one.role == role && one.own == own && !taken(one.bucket);
    let buckets: BTreeSet<_> = evidence.iter().filter(counts).map(|one| one.bucket).collect();
    let other_role =
        |bucket: &str| evidence.iter().any(|one| one.bucket == bucket && one.role != role && one.own == own);
    match buckets.first() {
        None => Ok(None),
        Some(only) if buckets.len() == 1 && !other_role(only) => Ok(Some(only)),
        Some(_) => {
            let why = |bucket: &str| {
                let of = evidence.iter().filter(|one| one.bucket == bucket && one.own == own);
                of.map(|one| one.why.clone()).collect::<Vec<_>>().join("; ")
            };
            Err(buckets.into_iter().map(|bucket| Candidate { name: bucket.into(), why: why(bucket) }).collect())
        }
    }
}

/// Buckets whose names alone speak of a role.
pub(super) fn so_called(account: &Account, role: Role) -> Vec<Candidate> {
    let so_called = account.buckets.iter().filter(|bucket| spoken_of(&bucket.name) == Some(role));
    so_called.map(|bucket| Candidate { name: bucket.name.clone(), why: "its name, and nothing else".into() }).collect()
}

/// Services and their variables whose values name a bucket.
pub(super) fn named_by<'a>(services: &[&'a Service], bucket: &Bucket) -> Vec<(&'a str, &'a str)> {
    let mut all = Vec::new();
    for service in services {
        for (variable, value) in service.containers.iter().flat_map(|container| &container.environment) {
            if names(value, &bucket.name) {
                all.push((service.name.as_str(), variable.as_str()));
            }
        }
    }
    all
}

/// Whether a value names a bucket: alone, in an s3:// URL, an ARN, or the host name that S3 gives it.
fn names(value: &str, bucket: &str) -> bool {
    let is_of_names = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    value.split(|c| !is_of_names(c)).any(|part| {
        let rest = part.strip_prefix(bucket);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(".s3.") || rest.starts_with(".s3-"))
    })
}

/// The role that an identifier speaks of, if it is one.
fn spoken_of(identifier: &str) -> Option<Role> {
    const NOT_OURS: &[&str] = &["log", "logs", "logging", "state", "terraform", "artifact", "artifacts", "replica"];
    const DATABASE: &[&str] = &["database", "databases", "db", "rds", "aurora", "postgres"];
    let words = words(identifier);
    let has = |any: &[&str]| words.iter().any(|word| any.contains(&word.as_str()));
    let pair = |one: &str, two: &str| words.windows(2).any(|pair| pair[0] == one && pair[1] == two);
    if has(NOT_OURS) {
        return None;
    }
    if has(&["backup", "backups"]) {
        return (!has(DATABASE)).then_some(Role::Backup);
    }
    let roles = [
        (
            Role::DataStore,
            has(&["datastore", "ingress", "input", "incoming", "inbound", "landing", "upload", "uploads"])
                || pair("data", "store"),
        ),
        (Role::Workspace, has(&["workspace", "working", "scratch", "intermediate"]) || pair("work", "space")),
        (Role::Shared, has(&["shared", "share", "egress", "output", "outgoing", "outbound"])),
    ];
    let mut spoken = roles.into_iter().filter(|(_, spoken)| *spoken).map(|(role, _)| role);
    spoken.next().filter(|_| spoken.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::{Container, Stack};

    fn bucket(name: &str, tags: &[(&str, &str)]) -> Bucket {
        let tags = tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Bucket { name: name.into(), tags }
    }

    fn service(variables: &[(&str, &str)]) -> Service {
        let environment = variables.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let containers = vec![Container { environment, ..Container::default() }];
        Service { name: "code".into(), containers, ..Service::default() }
    }

    #[test]
    fn a_value_names_a_bucket_whole_or_not_at_all() {
        for value in ["raw", "s3://raw/in", "arn:aws:s3:::raw/*", "https://raw.s3.eu-west-2.amazonaws.com/", "a,raw"] {
            assert!(names(value, "raw"), "{value}");
        }
        for value in ["raw-2", "my-raw", "rawest", "s3://raw-2/raw.csv", "raw.example.org"] {
            assert!(!names(value, "raw"), "{value}");
        }
    }

    #[test]
    fn identifiers_speak_of_one_role_or_none() {
        for (identifier, role) in [
            ("INPUT_LOCATION", Some(Role::DataStore)),
            ("DataStoreBucket", Some(Role::DataStore)),
            ("UPLOAD_BUCKET", Some(Role::DataStore)),
            ("workspaceLocation", Some(Role::Workspace)),
            ("SHARED_LOCATION", Some(Role::Shared)),
            ("EgressBucketName", Some(Role::Shared)),
            ("DataStoreBackup", Some(Role::Backup)),
            ("DatabaseBackups", None),
            ("SharedLogs", None),
            ("SHARED_INPUT", None),
            ("BUCKET", None),
        ] {
            assert_eq!(spoken_of(identifier), role, "{identifier}");
        }
    }

    #[test]
    fn what_the_containers_are_told_outranks_what_templates_say() {
        let mut account = Account {
            buckets: vec![
                bucket("b1", &[("purpose", "data-store")]),
                bucket("b2", &[("aws:cloudformation:logical-id", "SharedBucket")]),
                bucket("b3", &[("purpose", "workspace")]),
                bucket("b4", &[("purpose", "workspace")]),
                bucket("data-store", &[]),
            ],
            ..Account::default()
        };
        let reader = service(&[("INPUT_LOCATION", "s3://b3/in")]);
        let found = evidence(&account, &[&reader]);
        assert_eq!(choose(&found, Role::DataStore), Ok(Some("b3")), "not b1, which only its tag says");
        assert_eq!(choose(&found, Role::Shared), Ok(Some("b2")));
        assert_eq!(choose(&found, Role::Workspace), Ok(Some("b4")), "b3 has its purpose");
        let unread = evidence(&account, &[]);
        let between = choose(&unread, Role::Workspace).unwrap_err();
        assert_eq!(between.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["b3", "b4"]);

        let output = ("WorkspaceBucketName".to_owned(), "b9".to_owned());
        account.stacks = vec![Stack { name: "s".into(), outputs: vec![output], ..Stack::default() }];
        account.buckets = vec![bucket("b9", &[]), bucket("shared", &[])];
        let found = evidence(&account, &[]);
        assert_eq!(choose(&found, Role::Workspace), Ok(Some("b9")));
        assert_eq!(choose(&found, Role::Shared), Ok(None), "a name alone is none");
    }

    #[test]
    fn one_bucket_for_two_roles_is_left_to_a_person() {
        let account = Account { buckets: vec![bucket("b", &[])], ..Account::default() };
        let both = service(&[("INPUT_LOCATION", "s3://b/in"), ("WORKSPACE_LOCATION", "s3://b/work")]);
        let found = evidence(&account, &[&both]);
        let left = choose(&found, Role::DataStore).unwrap_err();
        assert_eq!(left.len(), 1);
        assert!(left[0].why.contains("INPUT_LOCATION") && left[0].why.contains("WORKSPACE_LOCATION"), "{left:?}");
    }
}
