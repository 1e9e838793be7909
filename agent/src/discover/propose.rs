//! From what an account has to the lines of a `[platform]` section, each with its reasons and doubts.
//!
//! Pure. A line is written only where one thing fits; where several do, or none, it is left to a person.

use std::collections::BTreeSet;

use sfdata_common::discovery::{Candidate, Choice, Line, Proposal};

use super::{
    Account, Certainty, Cluster, Database, Kind, Service, Verdict,
    buckets::{self, Evidence},
    classify,
};

/// A service and the verdict on it.
struct Judged<'a> {
    service: &'a Service,
    verdict: Verdict,
}

/// Propose what to write under `[platform]`.
pub fn propose(account: &Account) -> Proposal {
    let judged: Vec<(&Cluster, Vec<Judged>)> = account.clusters.iter().map(|of| (of, judge(account, of))).collect();
    let (line, chosen) = cluster(&judged);
    let mut unsure = account.unread.clone();
    let mut lines = vec![line];
    let none = Vec::new();
    let services = chosen.unwrap_or(&none);
    if chosen.is_some() {
        lines.extend([webserver(services), daemon(services), code_servers(services)]);
        lines.push(other_services(account, services));
        unsure.extend(services.iter().filter_map(not_taken));
    } else {
        let after = "it depends on the cluster";
        lines.extend(["platform.webserver", "platform.daemon"].map(|key| Line::left(key, after, Vec::new())));
    }
    let platform: Vec<_> = services.iter().map(|one| one.service).collect();
    lines.push(database(account, &platform));
    let evidence = buckets::evidence(account, &platform);
    lines.extend(buckets::ROLES.into_iter().filter_map(|(key, role)| bucket(account, key, role, &evidence)));
    unsure.extend(untold_buckets(account, &platform, &lines, &evidence));
    Proposal { account: account.id.clone(), region: account.region.clone(), lines, unsure }
}

fn judge<'a>(account: &Account, cluster: &'a Cluster) -> Vec<Judged<'a>> {
    let one = |service: &'a Service| {
        let mut verdict = classify(service);
        if let Some((stack, logical)) = account.made_by(&service.name, &service.arn) {
            verdict.because.push(format!("stack {} calls it {logical}", stack.name));
        }
        if service.desired == 0 {
            verdict.because.push("desired count 0: it is switched off, and counts all the same".into());
        }
        Judged { service, verdict }
    };
    cluster.services.iter().map(one).collect()
}

fn is_part(one: &Judged) -> bool {
    let part = [Kind::Webserver, Kind::Daemon, Kind::CodeServer, Kind::Several].contains(&one.verdict.kind);
    part && one.verdict.certainty > Certainty::None
}

fn cluster<'a, 'b>(judged: &'b [(&'a Cluster, Vec<Judged<'a>>)]) -> (Line, Option<&'b Vec<Judged<'a>>>) {
    const KEY: &str = "platform.cluster";
    let with: Vec<_> = judged.iter().filter(|(_, services)| services.iter().any(is_part)).collect();
    let described = |(cluster, services): &(&Cluster, Vec<Judged>)| {
        let told = services.iter().map(|one| format!("{} ({})", one.service.name, one.verdict.kind.told()));
        let told: Vec<_> = told.collect();
        let why = if told.is_empty() { "no services".into() } else { told.join(", ") };
        Candidate { name: cluster.name.clone(), why }
    };
    match (with.as_slice(), judged) {
        ([(cluster, services)], _) => {
            let mut line = Line::new(KEY, Choice::One(cluster.name.clone()));
            let parts: Vec<_> = services.iter().filter(|one| is_part(one)).map(|one| &*one.service.name).collect();
            line.because.push(format!("Dagster's services run here: {}", parts.join(", ")));
            let rest: Vec<_> = judged.iter().map(|(of, _)| &*of.name).filter(|name| *name != cluster.name).collect();
            if !rest.is_empty() {
                line.because.push(format!("not {}: nothing of Dagster's is there", rest.join(", ")));
            }
            (line, Some(services))
        }
        ([], []) => (Line::left(KEY, "there is no ECS cluster in this account and region", Vec::new()), None),
        // The one that there is, or was asked for: what its services are is still told one by one.
        ([], [(cluster, services)]) => {
            let mut line = Line::new(KEY, Choice::One(cluster.name.clone()));
            line.because.push("it is the only one".into());
            line.unsure.push("none of its services is known to be Dagster's".into());
            (line, Some(services))
        }
        ([], all) => {
            let unsure = "no cluster has a service that is known to be Dagster's";
            (Line::left(KEY, unsure, all.iter().map(described).collect()), None)
        }
        (several, _) => {
            let unsure = "several clusters have services of Dagster's; choose with --cluster";
            (Line::left(KEY, unsure, several.iter().map(|one| described(one)).collect()), None)
        }
    }
}

fn webserver(services: &[Judged]) -> Line {
    the_only("platform.webserver", Kind::Webserver, services)
}

fn daemon(services: &[Judged]) -> Line {
    the_only("platform.daemon", Kind::Daemon, services)
}

/// The service of which there has to be exactly one.
fn the_only(key: &str, kind: Kind, services: &[Judged]) -> Line {
    let of =
        |certainty| services.iter().filter(move |one| one.verdict.kind == kind && one.verdict.certainty == certainty);
    let (certain, likely): (Vec<_>, Vec<_>) = (of(Certainty::Certain).collect(), of(Certainty::Likely).collect());
    let best = if certain.is_empty() { &likely } else { &certain };
    if let [one] = best.as_slice() {
        let mut line = Line::new(key, Choice::One(one.service.name.clone()));
        line.because.clone_from(&one.verdict.because);
        line.unsure.clone_from(&one.verdict.unsure);
        for other in likely.iter().filter(|_| !certain.is_empty()) {
            let (name, what) = (&other.service.name, kind.told());
            line.unsure.push(format!("{name} may be {what} too: {}", other.verdict.because.join("; ")));
        }
        return line;
    }
    if !best.is_empty() {
        let unsure = format!("{} services could be it; a platform has one: take the mark away from one", best.len());
        return Line::left(key, unsure, best.iter().map(|one| candidate(one)).collect());
    }
    let may = |one: &&Judged| matches!(one.verdict.kind, Kind::Several | Kind::Unknown);
    let candidates: Vec<_> = services.iter().filter(may).map(candidate).collect();
    let unsure = match candidates.as_slice() {
        [] => format!("no service is {}", kind.told()),
        _ => format!("no service is surely {}; one of these may be", kind.told()),
    };
    Line::left(key, unsure, candidates)
}

fn candidate(one: &Judged) -> Candidate {
    let Verdict { because, unsure, .. } = &one.verdict;
    Candidate {
        name: one.service.name.clone(),
        why: because.iter().chain(unsure).cloned().collect::<Vec<_>>().join("; "),
    }
}

fn code_servers(services: &[Judged]) -> Line {
    let found: Vec<_> = services.iter().filter(|one| one.verdict.kind == Kind::CodeServer).collect();
    let names = found.iter().map(|one| one.service.name.clone()).collect();
    let mut line = Line::new("platform.code_servers", Choice::Several(names));
    for Judged { service, verdict } in &found {
        line.because.push(format!("{}: {}", service.name, verdict.because.join("; ")));
        line.unsure.extend(verdict.unsure.iter().map(|doubt| format!("{}: {doubt}", service.name)));
    }
    if found.is_empty() {
        line.unsure.push("no code server was found; webserver and daemon may load the code themselves".into());
    }
    line
}

/// Whatever else is in the cluster: it is the platform's, like the role's permissions, unless somebody says otherwise.
fn other_services(account: &Account, services: &[Judged]) -> Line {
    let found: Vec<_> = services.iter().filter(|one| one.verdict.kind == Kind::Other).collect();
    let names = found.iter().map(|one| one.service.name.clone()).collect();
    let mut line = Line::new("platform.other_services", Choice::Several(names));
    let dagster: Vec<_> = services.iter().filter(|one| is_part(one)).map(|one| one.service).collect();
    for Judged { service, verdict } in &found {
        let name = &service.name;
        let shared = account.buckets.iter().find_map(|bucket| {
            let (_, variable) = *buckets::named_by(&[service], bucket).first()?;
            Some(format!("its variable {variable} names bucket {}", bucket.name))
        });
        let root = |service: &Service| account.made_by(&service.name, &service.arn).map(|(stack, _)| &stack.root);
        let made = root(service).filter(|of| dagster.iter().any(|part| root(part) == Some(of)));
        let tie = shared.or_else(|| made.map(|_| "the same stack made it as Dagster's services".into()));
        let because = verdict.because.join("; ");
        line.because.push(match &tie {
            Some(tie) => format!("{name}: {because}; {tie}"),
            None => format!("{name}: {because}; it is in the same cluster"),
        });
        if tie.is_none() {
            line.unsure.push(format!("nothing but the cluster ties {name} to the platform: take it out if it is not"));
        }
        line.unsure.extend(verdict.unsure.iter().map(|doubt| format!("{name}: {doubt}")));
    }
    line
}

/// A service that no line names, and why not.
fn not_taken(one: &Judged) -> Option<String> {
    let Judged { service, verdict } = one;
    let (name, told) = (&service.name, candidate(one).why);
    match verdict.kind {
        Kind::Agent => Some(format!("service {name} is left out: it is {}", verdict.kind.told())),
        Kind::Several => Some(format!(
            "service {name} is left out: it is several parts of Dagster in one, and each \
             needs a service of its own: {told}"
        )),
        Kind::Unknown => Some(format!("service {name} is left out, for what it is cannot be told: {told}")),
        _ => None,
    }
}

fn database(account: &Account, services: &[&Service]) -> Line {
    const KEY: &str = "platform.aurora_cluster";
    let (aurora, others): (Vec<_>, Vec<_>) =
        account.databases.iter().partition(|database| database.engine.starts_with("aurora"));
    let ties: Vec<_> = aurora.iter().map(|database| (*database, tie(account, services, database))).collect();
    let mut tied = ties.iter().filter_map(|(database, tie)| Some((*database, tie.clone()?)));
    let mut line = match (tied.next(), tied.next(), ties.as_slice()) {
        (Some((database, why)), None, _) => {
            let mut line = Line::new(KEY, Choice::One(database.name.clone()));
            line.because.push(why);
            line
        }
        (None, _, []) => Line::left(KEY, "there is no Aurora cluster in this account and region", Vec::new()),
        (None, _, [(database, _)]) => {
            let mut line = Line::new(KEY, Choice::One(database.name.clone()));
            line.because.push("it is the only Aurora cluster".into());
            line.unsure.push("neither the containers nor a stack tie it to the platform".into());
            line
        }
        _ => {
            let why = |tie: &Option<String>| tie.clone().unwrap_or_else(|| "nothing ties it to the platform".into());
            let candidates = ties.iter().map(|(of, tie)| Candidate { name: of.name.clone(), why: why(tie) }).collect();
            Line::left(KEY, "which of the Aurora clusters is the platform's cannot be told", candidates)
        }
    };
    for other in others {
        line.unsure.push(format!("DB cluster {} is no Aurora but {}: left out", other.name, other.engine));
    }
    line
}

/// What ties a database to the platform.
fn tie(account: &Account, services: &[&Service], database: &Database) -> Option<String> {
    let hosts = |value: &str| database.endpoints.iter().any(|host| !host.is_empty() && value.contains(host.as_str()));
    for service in services {
        for container in &service.containers {
            if let Some((variable, _)) = container.environment.iter().find(|(_, value)| hosts(value)) {
                return Some(format!("variable {variable} of service {} names its endpoint", service.name));
            }
            let secret = database.secret.as_deref().filter(|secret| !secret.is_empty());
            let keeps = |from: &String| secret.is_some_and(|secret| from.starts_with(secret));
            if let Some((variable, _)) = container.secrets.iter().find(|(_, from)| keeps(from)) {
                return Some(format!("variable {variable} of service {} comes from its secret", service.name));
            }
        }
    }
    let (made, logical) = account.made_by(&database.name, "").or_else(|| stack_of_tags(account, database))?;
    let same = |service: &&&Service| {
        account.made_by(&service.name, &service.arn).is_some_and(|(stack, _)| stack.root == made.root)
    };
    let beside = services.iter().find(same)?;
    Some(format!("stack {} made it, as {logical}, and service {} as well", made.name, beside.name))
}

fn stack_of_tags<'a>(account: &'a Account, database: &'a Database) -> Option<(&'a super::Stack, &'a str)> {
    let name = database.tags.get("aws:cloudformation:stack-name")?;
    let logical = database.tags.get("aws:cloudformation:logical-id")?;
    Some((account.stacks.iter().find(|stack| stack.name == *name)?, logical))
}

fn bucket(account: &Account, key: &str, role: buckets::Role, evidence: &[Evidence]) -> Option<Line> {
    Some(match buckets::choose(evidence, role) {
        Ok(Some(name)) => {
            let mut line = Line::new(key, Choice::One(name.into()));
            for one in evidence.iter().filter(|one| one.bucket == name) {
                let agrees = one.role == role;
                if agrees { &mut line.because } else { &mut line.unsure }.push(one.why.clone());
            }
            line.because.dedup();
            for other in evidence.iter().filter(|one| one.bucket != name && one.role == role) {
                line.unsure.push(format!("{} speaks for it as well: {}", other.bucket, other.why));
            }
            line
        }
        Ok(None) if role == buckets::Role::Backup => return None,
        Ok(None) => {
            let unsure = "no variable, tag or stack tells which bucket it is";
            Line::left(key, unsure, buckets::so_called(account, role))
        }
        Err(candidates) => Line::left(key, "more than one purpose or bucket is told; each has one", candidates),
    })
}

/// Buckets that the platform's containers name, or that are all there is, and that stand in no line.
fn untold_buckets(account: &Account, services: &[&Service], lines: &[Line], evidence: &[Evidence]) -> Vec<String> {
    let written = |name: &str| {
        let in_line = |line: &Line| line.value == Choice::One(name.into()) && line.key.starts_with("platform.buckets");
        lines.iter().any(|line| in_line(line) || line.candidates.iter().any(|one| one.name == name))
    };
    let spoken: BTreeSet<_> = evidence.iter().map(|one| one.bucket).collect();
    let mut told = Vec::new();
    let mut rest = Vec::new();
    for bucket in account.buckets.iter().filter(|bucket| !written(&bucket.name)) {
        match buckets::named_by(services, bucket).first() {
            Some((service, variable)) if !spoken.contains(bucket.name.as_str()) => told.push(format!(
                "bucket {} is named by variable {variable} of service {service}, which does not tell what it is for",
                bucket.name
            )),
            _ => rest.push(bucket.name.as_str()),
        }
    }
    if !rest.is_empty() {
        told.push(format!("buckets of which nothing tells that they are the platform's: {}", rest.join(", ")));
    }
    told
}

#[cfg(test)]
mod tests;
