//! What one ECS service is to a platform, from its containers' commands, ports, images and health checks.
//!
//! Pure. A command decides; without one that is known, ports, image and health check do where Dagster shows in the
//! image or the variables as well. Names and tags decide nothing: they agree, or raise a doubt.

use std::collections::BTreeSet;

use super::{
    Container, Service,
    command::{self, Ran},
    words,
};

/// What a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Dagster's page.
    Webserver,
    /// Dagster's daemon.
    Daemon,
    /// A code location.
    CodeServer,
    /// More than one of these in one service, which a configuration cannot name apart.
    Several,
    /// This agent.
    Agent,
    /// Nothing of Dagster's.
    Other,
    /// It may be a part of Dagster; nothing says which.
    Unknown,
}

impl Kind {
    /// In a sentence.
    pub fn told(self) -> &'static str {
        match self {
            Self::Webserver => "a webserver",
            Self::Daemon => "a daemon",
            Self::CodeServer => "a code server",
            Self::Several => "several parts of Dagster in one",
            Self::Agent => "an agent of SFDATA Hub",
            Self::Other => "no part of Dagster",
            Self::Unknown => "unclear",
        }
    }
}

/// How much stands behind a verdict, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// Nothing to go by.
    None,
    /// Ports, image, health check, or arguments of a script.
    Likely,
    /// The command.
    Certain,
}

/// What a service is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What it is.
    pub kind: Kind,
    /// How much stands behind it.
    pub certainty: Certainty,
    /// What speaks for it.
    pub because: Vec<String>,
    /// What speaks against it, or what a person should know.
    pub unsure: Vec<String>,
}

impl Verdict {
    fn new(kind: Kind, certainty: Certainty, because: impl Into<String>) -> Self {
        Self { kind, certainty, because: vec![because.into()], unsure: Vec::new() }
    }
}

/// Say what a service is.
pub fn classify(service: &Service) -> Verdict {
    let mut verdict = together(service.containers.iter().map(judge).collect());
    let called = std::iter::once((format!("its name {}", service.name), &service.name))
        .chain(service.tags.iter().map(|(key, value)| (format!("its tag {key} = {value}"), value)));
    for (what, text) in called {
        match hint(&words(text)) {
            Some(kind) if kind == verdict.kind => verdict.because.push(format!("{what} agrees")),
            Some(kind) => verdict.unsure.push(format!("{what} speaks of {}, which decides nothing", kind.told())),
            None => {}
        }
    }
    if verdict.kind == Kind::Daemon && service.desired > 1 {
        let count = service.desired;
        verdict.unsure.push(format!("its desired count is {count}: two daemons launch every schedule twice"));
    }
    if !["", "ECS"].contains(&service.controller.as_str()) {
        let by = &service.controller;
        verdict.unsure.push(format!("its deployments are made by {by}, so the agent cannot restart it"));
    }
    verdict
}

/// The verdict on all containers: those beside Dagster's do not count.
fn together(verdicts: Vec<Verdict>) -> Verdict {
    let part = |verdict: &&Verdict| !matches!(verdict.kind, Kind::Other | Kind::Unknown);
    let surest = verdicts.iter().filter(part).map(|verdict| verdict.certainty).max();
    if let Some(surest) = surest {
        let mut best = verdicts.iter().filter(part).filter(|verdict| verdict.certainty == surest);
        let kinds: BTreeSet<_> = best.clone().map(|verdict| verdict.kind).collect();
        if kinds.len() > 1 {
            let because = best.flat_map(|verdict| verdict.because.clone()).collect();
            return Verdict { kind: Kind::Several, certainty: surest, because, unsure: Vec::new() };
        }
        if let Some(first) = best.next() {
            return first.clone();
        }
    }
    let unclear = verdicts.iter().find(|verdict| verdict.kind == Kind::Unknown);
    unclear.or(verdicts.first()).cloned().unwrap_or_else(|| {
        Verdict::new(Kind::Unknown, Certainty::None, "its task definition could not be read, or has no containers")
    })
}

fn judge(container: &Container) -> Verdict {
    let name = &container.name;
    let ran = command::programs(&container.entry_point, &container.command);
    let of = |through: bool| ran.iter().filter(move |ran| ran.kind.is_some() && ran.through.is_some() == through);
    for (through, certainty) in [(false, Certainty::Certain), (true, Certainty::Likely)] {
        let parts: Vec<_> = of(through).filter(|ran| ran.kind != Some(Kind::Other)).collect();
        let kinds: BTreeSet<_> = parts.iter().filter_map(|ran| ran.kind).collect();
        let kind = match kinds.first() {
            Some(kind) if kinds.len() == 1 => *kind,
            Some(_) => Kind::Several,
            None => continue,
        };
        let mut verdict = Verdict::new(kind, certainty, format!("container {name} runs {}", list(&parts)));
        if through {
            let by = parts.iter().find_map(|ran| ran.through.as_deref()).unwrap_or_default();
            verdict.unsure.push(format!("the command is handed to {by}, which decides what it does with it"));
        }
        verdict.because.extend(ports(container));
        return verdict;
    }
    if let Some(other) = of(false).next() {
        let certain = format!("container {name} runs {}", other.program);
        return Verdict::new(Kind::Other, Certainty::Certain, certain);
    }
    without_command(container, &ran)
}

/// The verdict where the command is the image's own, or one that nothing is known of.
fn without_command(container: &Container, ran: &[Ran]) -> Verdict {
    let name = &container.name;
    let does = match ran.first() {
        None => format!("container {name} runs what its image says"),
        Some(first) => format!("container {name} runs {}, which is not known here", first.program),
    };
    let (dagster, hints) = (sign_of_dagster(container), hints(container));
    let kinds: BTreeSet<_> = hints.iter().map(|(kind, _)| *kind).collect();
    let why: Vec<_> = hints.into_iter().map(|(_, why)| why).collect();
    let mut verdict = Verdict::new(Kind::Unknown, Certainty::None, does);
    match (&dagster, kinds.first()) {
        (Some(sign), Some(kind)) if kinds.len() == 1 => {
            (verdict.kind, verdict.certainty) = (*kind, Certainty::Likely);
            verdict.because.push(sign.clone());
            verdict.because.extend(why);
            verdict.unsure.push("its command does not show what it runs".into());
        }
        (Some(sign), Some(_)) => {
            verdict.because.push(sign.clone());
            verdict.unsure.push(format!("these do not agree: {}", why.join("; ")));
        }
        (Some(sign), None) => {
            verdict.because.push(sign.clone());
            verdict.unsure.push("neither command, port nor image tells which part of Dagster it is".into());
        }
        (None, Some(kind)) => {
            let may = kind.told();
            verdict.unsure.push(format!("it may be {may}, but nothing says that it is Dagster's: {}", why.join("; ")));
        }
        (None, None) => {
            verdict.kind = Kind::Other;
            verdict.because.push(format!("nothing of Dagster's in its image {}", container.image));
        }
    }
    verdict
}

fn sign_of_dagster(container: &Container) -> Option<String> {
    let of = |word: &String| ["dagster", "dagit"].contains(&word.as_str());
    if words(&container.image).iter().any(of) {
        return Some(format!("its image is {}", container.image));
    }
    let mut variables = container.environment.keys().chain(container.secrets.keys());
    variables.find(|name| name.starts_with("DAGSTER_")).map(|name| format!("it has the variable {name}"))
}

/// What port, image and health check hint at.
fn hints(container: &Container) -> Vec<(Kind, String)> {
    let mut hints = Vec::new();
    if container.ports.contains(&3000) {
        hints.push((Kind::Webserver, "port 3000 is that of Dagster's page".to_owned()));
    }
    if container.ports.contains(&4000) {
        hints.push((Kind::CodeServer, "port 4000 is that of Dagster's code servers".to_owned()));
    }
    let repository = container.image.rsplit('/').next().and_then(|last| last.split([':', '@']).next());
    let image = repository.and_then(|repository| hint(&words(repository)));
    // Who listens is no daemon; a page or a code server without a port is none that anybody reaches.
    let fits = |kind: &Kind| (*kind == Kind::Daemon) == container.ports.is_empty();
    hints.extend(image.filter(fits).map(|kind| (kind, format!("its image {} is named for it", container.image))));
    let check = container.health_check.join(" ");
    for (words, kind) in [
        ("grpc-health-check", Kind::CodeServer),
        ("/server_info", Kind::Webserver),
        ("/dagit_info", Kind::Webserver),
        ("dagster-daemon liveness-check", Kind::Daemon),
    ] {
        if check.contains(words) {
            hints.push((kind, format!("its health check asks {words}")));
        }
    }
    hints
}

/// What an identifier speaks of.
fn hint(words: &[String]) -> Option<Kind> {
    let has = |word: &str| words.iter().any(|one| one == word);
    let pair = |one: &str, two: &str| words.windows(2).any(|pair| pair[0] == one && pair[1] == two);
    let told = [
        (Kind::Webserver, has("webserver") || has("dagit") || pair("web", "server")),
        (Kind::Daemon, has("daemon")),
        (Kind::CodeServer, has("codeserver") || has("grpc") || pair("code", "server") || pair("user", "code")),
    ];
    let mut told = told.into_iter().filter(|(_, told)| *told).map(|(kind, _)| kind);
    told.next().filter(|_| told.next().is_none())
}

fn ports(container: &Container) -> Option<String> {
    let ports: Vec<_> = container.ports.iter().map(ToString::to_string).collect();
    (!ports.is_empty()).then(|| format!("port {}", ports.join(", ")))
}

fn list(parts: &[&Ran]) -> String {
    parts.iter().map(|ran| ran.program.as_str()).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(image: &str, command: &[&str], ports: &[u16]) -> Container {
        let command = command.iter().map(ToString::to_string).collect();
        Container { name: "app".into(), image: image.into(), command, ports: ports.to_vec(), ..Container::default() }
    }

    fn service(name: &str, containers: Vec<Container>) -> Service {
        Service { name: name.into(), containers, ..Service::default() }
    }

    #[test]
    fn a_service_is_what_its_command_port_and_image_say() {
        use Certainty::{Certain, Likely, None};
        use Kind::{Agent, CodeServer, Daemon, Other, Several, Unknown, Webserver};
        let one = |image, command: &[&str], ports: &[u16]| vec![container(image, command, ports)];
        let home = |container| vec![with_home(container)];
        let check = |container: Container| {
            let health_check = vec!["CMD".into(), "dagster api grpc-health-check -p 8080".into()];
            vec![Container { health_check, ..with_home(container) }]
        };
        let table: Vec<(&str, Vec<Container>, Kind, Certainty)> = vec![
            ("command alone", one("x/y:1", &["dagster-webserver"], &[]), Webserver, Certain),
            ("command and an odd port", one("x/y:1", &["dagit", "-p", "80"], &[80]), Webserver, Certain),
            ("command against port", one("x/y:1", &["dagster-daemon", "run"], &[3000]), Daemon, Certain),
            ("command against image", one("x/daemon:1", &["dagster", "api", "grpc"], &[]), CodeServer, Certain),
            ("through a script", one("x/y:1", &["/start.sh", "dagster-daemon", "run"], &[]), Daemon, Likely),
            ("dev", one("dagster", &["dagster", "dev"], &[3000]), Several, Certain),
            ("two in a shell", one("x", &["dagit & dagster-daemon run"], &[]), Several, Certain),
            ("an agent", one("x/sfdata-agent:1", &["sfdata-agent", "run"], &[]), Agent, Certain),
            ("a page of another kind", one("dagster-upload", &["streamlit", "run", "a"], &[3000]), Other, Certain),
            ("no command, Dagster's image, 3000", one("x/dagster:1", &[], &[3000]), Webserver, Likely),
            ("no command, Dagster's image, 4000", one("x/dagster:1", &[], &[4000]), CodeServer, Likely),
            ("no command, the daemon's image", one("x/dagster-daemon:1", &[], &[]), Daemon, Likely),
            ("the daemon's image that listens", one("x/dagster-daemon:1", &[], &[80]), Unknown, None),
            ("no command, image with two ports", one("x/dagster:1", &[], &[3000, 4000]), Unknown, None),
            ("no command, variable, 3000", home(container("x/y:1", &[], &[3000])), Webserver, Likely),
            ("no command, variable alone", home(container("x/y:1", &[], &[])), Unknown, None),
            ("unknown command, variable, 4000", home(container("x/y:1", &["./go.sh"], &[4000])), CodeServer, Likely),
            ("health check", check(container("x/y:1", &[], &[8080])), CodeServer, Likely),
            ("port alone", one("x/y:1", &[], &[3000]), Unknown, None),
            ("image's name alone", one("x/our-daemon:1", &[], &[]), Unknown, None),
            ("nothing", one("x/y:1", &["python", "app.py"], &[8501]), Other, None),
            ("no containers", vec![], Unknown, None),
            (
                "with a sidecar",
                vec![container("nginx", &["nginx"], &[80]), container("x", &["dagster-webserver"], &[])],
                Webserver,
                Certain,
            ),
            (
                "page and daemon in two containers",
                vec![container("x", &["dagster-daemon", "run"], &[]), container("x", &["dagster-webserver"], &[])],
                Several,
                Certain,
            ),
            (
                "a sure container beside a likely one",
                vec![container("dagster", &[], &[3000]), container("x", &["dagster-daemon", "run"], &[])],
                Daemon,
                Certain,
            ),
        ];
        for (what, containers, kind, certainty) in table {
            // Whatever it is called, it is the same.
            for name in ["a", "daemon", "dagster-webserver", "code-server"] {
                let verdict = classify(&service(name, containers.clone()));
                assert_eq!((verdict.kind, verdict.certainty), (kind, certainty), "{what}, {name}: {verdict:?}");
                assert!(!verdict.because.is_empty(), "{what}");
            }
        }
    }

    fn with_home(mut container: Container) -> Container {
        container.environment.insert("DAGSTER_HOME".into(), "/opt".into());
        container
    }

    #[test]
    fn names_and_tags_agree_or_raise_a_doubt() {
        let mut daemon = service("la-daemon", vec![container("x", &["dagster-daemon", "run"], &[])]);
        daemon.tags.insert("part".into(), "dagit".into());
        let verdict = classify(&daemon);
        assert_eq!(verdict.because, ["container app runs dagster-daemon run", "its name la-daemon agrees"]);
        assert_eq!(verdict.unsure, ["its tag part = dagit speaks of a webserver, which decides nothing"]);
    }

    #[test]
    fn a_daemon_that_is_wanted_twice_and_a_foreign_controller_are_told() {
        let mut daemon = service("a", vec![container("x", &["dagster-daemon", "run"], &[])]);
        daemon.desired = 2;
        daemon.controller = "CODE_DEPLOY".into();
        let unsure = classify(&daemon).unsure;
        assert!(unsure[0].contains("desired count is 2") && unsure[1].contains("CODE_DEPLOY"), "{unsure:?}");
    }
}
