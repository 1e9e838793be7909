//! What a container runs, read from its command line: through shells, `exec`, `env`, init processes, environment
//! managers and scripts that run their arguments.

use super::Kind;

/// A shell in a shell in a shell is as deep as anybody goes.
const DEPTH: usize = 4;
const SHELLS: &[&str] = &["sh", "bash", "ash", "dash", "zsh", "ksh"];
/// Programs that run the program that they are given, with whatever options stand between.
const WRAPPERS: &[&str] = &[
    "exec",
    "command",
    "env",
    "nohup",
    "nice",
    "time",
    "timeout",
    "stdbuf",
    "setsid",
    "tini",
    "dumb-init",
    "docker-init",
    "catatonit",
    "s6-setuidgid",
    "gosu",
    "su-exec",
    "setpriv",
    "sudo",
    "su",
    "runuser",
    "poetry",
    "pipenv",
    "pdm",
    "uv",
    "uvx",
    "rye",
    "hatch",
    "pixi",
    "conda",
    "micromamba",
    "opentelemetry-instrument",
    "ddtrace-run",
    "newrelic-admin",
    "aws-vault",
    "chamber",
    "busybox",
];
/// Words of a shell that may stand before a command.
const KEYWORDS: &[&str] = &["if", "then", "else", "elif", "do", "while", "until", "!", "{", "("];

/// One program that a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ran {
    /// What it is, if it is known.
    pub(super) kind: Option<Kind>,
    /// The words by which it was recognised, or the program's name alone. No arguments: they may hold secrets.
    pub(super) program: String,
    /// The program that was given this as its arguments, and may do something else with it.
    pub(super) through: Option<String>,
}

/// All programs that entry point and command run, in their order; none where both are left to the image.
pub(super) fn programs(entry_point: &[String], command: &[String]) -> Vec<Ran> {
    let line: Vec<String> = entry_point.iter().chain(command).cloned().collect();
    match line.as_slice() {
        // One text with blanks is meant for a shell, which the image's entry point may well be.
        [only] if only.contains(char::is_whitespace) => script(only, DEPTH),
        _ => simple(&line, DEPTH),
    }
}

/// Whether these would run Dagster's daemon, or hand its command line to something that may run it.
pub(crate) fn may_run_daemon(entry_point: &[String], command: &[String]) -> bool {
    let is_daemon = |ran: &Ran| matches!(ran.kind, Some(Kind::Daemon | Kind::Several));
    let line = [entry_point, command].concat();
    let texts = line.iter().flat_map(|word| commands(word));
    let handed = |line: &[String]| (0..line.len()).any(|at| known(&line[at..]).is_some_and(|ran| is_daemon(&ran)));
    programs(entry_point, command).iter().any(is_daemon) || handed(&line) || texts.into_iter().any(|line| handed(&line))
}

/// What follows the `-c` of a shell: the text that it executes, then the text's arguments. None without such a shell.
pub(crate) fn after_shell_flag(line: &[String]) -> Option<&[String]> {
    let shell = line.iter().position(|word| SHELLS.contains(&base(word)))?;
    let mut words = line.iter().enumerate().skip(shell + 1);
    while let Some((at, word)) = words.next() {
        match word.as_str() {
            word if is_text_flag(word) => return line.get(at + 1..),
            "-o" | "+o" | "-O" | "+O" => _ = words.next(),
            word if word.starts_with(['-', '+']) => {}
            _ => return None,
        }
    }
    None
}

/// Whether one of these is the program that this word names.
pub(crate) fn names_program(line: &[String], program: &str) -> bool {
    line.iter().any(|word| !word.starts_with('-') && base(word) == base(program))
}

/// `-c`, also among a shell's other letters.
fn is_text_flag(word: &str) -> bool {
    let letters = word.strip_prefix('-').filter(|letters| letters.chars().all(|c| c.is_ascii_alphabetic()));
    letters.is_some_and(|letters| letters.contains('c'))
}

/// One command without a shell's punctuation.
fn simple(line: &[String], depth: usize) -> Vec<Ran> {
    let leading = line.iter().take_while(|word| is_assignment(word) || KEYWORDS.contains(&word.as_str())).count();
    let line = &line[leading..];
    let Some(first) = line.first() else { return Vec::new() };
    if depth == 0 {
        return vec![unknown(first)];
    }
    if let Some(found) = known(line) {
        return vec![found];
    }
    let name = base(first);
    if SHELLS.contains(&name) {
        return shell(line, depth);
    }
    if WRAPPERS.contains(&name) {
        return wrapped(line, depth);
    }
    if let Some(at) = line.iter().position(|word| word == "--") {
        return simple(&line[at + 1..], depth - 1);
    }
    let arguments = if is_python(name) { line.get(2..) } else { line.get(1..) };
    let program = if is_python(name) { line.get(1).unwrap_or(first) } else { first };
    let through = |ran: Ran| Ran { through: Some(plain(base(program))), ..ran };
    vec![arguments.and_then(known).map_or_else(|| unknown(program), through)]
}

fn wrapped(line: &[String], depth: usize) -> Vec<Ran> {
    let rest = &line[1..];
    for at in 0..rest.len() {
        if let Some(found) = known(&rest[at..]) {
            return vec![found];
        }
        let name = base(&rest[at]);
        if SHELLS.contains(&name) {
            return shell(&rest[at..], depth);
        }
        if rest[at] == "-c" && ["su", "runuser"].contains(&base(&line[0])) {
            return rest.get(at + 1).map(|text| script(text, depth - 1)).unwrap_or_default();
        }
        if WRAPPERS.contains(&name) || is_python(name) || rest[at] == "--" {
            return simple(&rest[at + usize::from(rest[at] == "--")..], depth - 1);
        }
    }
    let own = |word: &&String| word.starts_with('-') || is_assignment(word) || word.as_str() == "run";
    rest.iter().find(|word| !own(word)).map(|word| simple_unknown(rest, word)).unwrap_or_default()
}

/// What a wrapper runs when nothing of it is known: scripts and their first argument are still looked at.
fn simple_unknown(rest: &[String], word: &String) -> Vec<Ran> {
    let at = rest.iter().position(|other| other == word).unwrap_or_default();
    let through = |ran: Ran| Ran { through: Some(plain(base(word))), ..ran };
    vec![rest.get(at + 1..).and_then(known).map_or_else(|| unknown(word), through)]
}

/// `sh -c TEXT`, `bash -lc TEXT`, `bash -o pipefail -c TEXT`, or a script by its name.
fn shell(line: &[String], depth: usize) -> Vec<Ran> {
    match line.iter().position(|word| is_text_flag(word)).and_then(|at| line.get(at + 1)) {
        Some(text) => script(text, depth - 1),
        None => {
            let file = line.iter().skip(1).position(|word| !word.starts_with('-'));
            file.map(|at| simple(&line[at + 1..], depth - 1)).unwrap_or_default()
        }
    }
}

/// Each command of a shell's text.
fn script(text: &str, depth: usize) -> Vec<Ran> {
    commands(text).iter().flat_map(|line| simple(line, depth)).collect()
}

/// A line that begins with a program that is known, and what makes it known.
fn known(line: &[String]) -> Option<Ran> {
    let first = line.first()?;
    let (program, rest) = match base(first) {
        name if is_python(name) => {
            let at = line.iter().position(|word| word == "-m")?;
            if line[1..at].iter().any(|word| !word.starts_with('-')) {
                return None;
            }
            (module(line.get(at + 1)?)?, &line[at + 2..])
        }
        name => (name, &line[1..]),
    };
    let mut words = rest.iter().filter(|word| !word.starts_with('-')).map(String::as_str);
    let (kind, told) = match (program, words.next(), words.next()) {
        ("dagster-webserver" | "dagit", ..) => (Kind::Webserver, program.to_owned()),
        ("dagster-daemon", Some("run"), _) => (Kind::Daemon, "dagster-daemon run".into()),
        ("dagster", Some("api"), Some("grpc")) => (Kind::CodeServer, "dagster api grpc".into()),
        ("dagster", Some("code-server"), Some("start")) => (Kind::CodeServer, "dagster code-server start".into()),
        ("dagster" | "dg", Some("dev"), _) => (Kind::Several, format!("{program} dev")),
        ("sfdata-agent", ..) => (Kind::Agent, program.to_owned()),
        ("node" | "npm" | "npx" | "yarn" | "pnpm" | "nginx" | "httpd" | "apache2ctl" | "caddy" | "haproxy", ..)
        | ("envoy" | "java" | "php-fpm" | "grafana" | "grafana-server" | "redis-server" | "celery", ..)
        | ("uvicorn" | "gunicorn" | "hypercorn" | "waitress-serve" | "streamlit" | "flask", ..) => {
            (Kind::Other, program.to_owned())
        }
        _ => return None,
    };
    Some(Ran { kind: Some(kind), program: told, through: None })
}

/// The program that `python -m` runs.
fn module(name: &str) -> Option<&'static str> {
    Some(match name {
        "dagster" | "dagster._cli" | "dagster.cli" => "dagster",
        "dagster_webserver" | "dagster_webserver.cli" => "dagster-webserver",
        "dagit" | "dagit.cli" => "dagit",
        "dagster._daemon" | "dagster._daemon.cli" | "dagster.daemon" => "dagster-daemon",
        "uvicorn" => "uvicorn",
        "gunicorn" => "gunicorn",
        "streamlit" => "streamlit",
        "flask" => "flask",
        _ => return None,
    })
}

fn unknown(program: &str) -> Ran {
    Ran { kind: None, program: plain(base(program)), through: None }
}

/// Fit to be shown: short, and no secret that a strange command line has in its place.
fn plain(name: &str) -> String {
    let fit = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.len() <= 40 && !name.is_empty() && name.chars().all(fit) { name.into() } else { "a program".into() }
}

fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

fn is_python(name: &str) -> bool {
    name.strip_prefix("python").is_some_and(|version| version.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map(|(name, _)| name);
    name.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// A shell's text as simple commands: quotes are taken off, and `;`, `&`, `|`, brackets and line ends part them.
fn commands(text: &str) -> Vec<Vec<String>> {
    let (mut all, mut line, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let (mut quote, mut letters) = (None, text.chars().peekable());
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match letters.next() {
                Some('\n') | None => {}
                Some(next) => word.get_or_insert_default().push(next),
            },
            (None, ';' | '&' | '|' | '\n' | '(' | ')') => {
                line.extend(word.take());
                all.push(std::mem::take(&mut line));
            }
            (None, '#') if word.is_none() => while letters.next_if(|next| *next != '\n').is_some() {},
            (None, blank) if blank.is_whitespace() => line.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    line.extend(word);
    all.push(line);
    all.retain(|line| !line.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(entry_point: &[&str], command: &[&str]) -> Vec<(Option<Kind>, String)> {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let told = |ran: Ran| match ran.through {
            Some(through) => (ran.kind, format!("{} through {through}", ran.program)),
            None => (ran.kind, ran.program),
        };
        programs(&owned(entry_point), &owned(command)).into_iter().map(told).collect()
    }

    #[test]
    fn programs_are_found_however_they_are_started() {
        use Kind::{Agent, CodeServer, Daemon, Other, Several, Webserver};
        type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [(Option<Kind>, &'a str)]);
        let table: &[Row] = &[
            (&[], &[], &[]),
            (&[], &["dagster-webserver", "-h", "0.0.0.0"], &[(Some(Webserver), "dagster-webserver")]),
            (&["dagit"], &["-p", "3000"], &[(Some(Webserver), "dagit")]),
            (&[], &["/opt/venv/bin/dagster-daemon", "run"], &[(Some(Daemon), "dagster-daemon run")]),
            (&[], &["dagster-daemon", "liveness-check"], &[(None, "dagster-daemon")]),
            (&["dagster"], &["api", "grpc", "-p", "4000"], &[(Some(CodeServer), "dagster api grpc")]),
            (&[], &["dagster", "code-server", "start"], &[(Some(CodeServer), "dagster code-server start")]),
            (&[], &["dagster", "api", "execute_run"], &[(None, "dagster")]),
            (&[], &["dagster", "dev"], &[(Some(Several), "dagster dev")]),
            (&["sh", "-c"], &["dagster-webserver -p 3000"], &[(Some(Webserver), "dagster-webserver")]),
            (
                &["/bin/bash", "-lc"],
                &["cd /app && exec dagster-daemon run"],
                &[(None, "cd"), (Some(Daemon), "dagster-daemon run")],
            ),
            (
                &[],
                &["bash", "-o", "pipefail", "-c", "dagster api grpc | tee log"],
                &[(Some(CodeServer), "dagster api grpc"), (None, "tee")],
            ),
            (&[], &["PGPASSWORD='a b' dagster-daemon run # not dagit"], &[(Some(Daemon), "dagster-daemon run")]),
            (
                &[],
                &["sh", "-c", "if true; then \\\n dagster-daemon run; fi"],
                &[(None, "true"), (Some(Daemon), "dagster-daemon run"), (None, "fi")],
            ),
            (&["tini", "--"], &["dagster-daemon", "run"], &[(Some(Daemon), "dagster-daemon run")]),
            (&["tini", "-g", "--"], &["nginx", "-g", "daemon off;"], &[(Some(Other), "nginx")]),
            (&[], &["env", "A=b", "poetry", "run", "dagster-webserver"], &[(Some(Webserver), "dagster-webserver")]),
            (&[], &["gosu", "dagster", "dagster", "api", "grpc"], &[(Some(CodeServer), "dagster api grpc")]),
            (&[], &["su", "dagster", "-c", "dagster-daemon run"], &[(Some(Daemon), "dagster-daemon run")]),
            (&[], &["nice", "-n", "10", "sh", "-c", "dagit"], &[(Some(Webserver), "dagit")]),
            (&[], &["python3.11", "-u", "-m", "dagster_webserver"], &[(Some(Webserver), "dagster-webserver")]),
            (&[], &["uv", "run", "python", "-m", "dagster", "api", "grpc"], &[(Some(CodeServer), "dagster api grpc")]),
            (
                &["/entrypoint.sh"],
                &["dagster-daemon", "run"],
                &[(Some(Daemon), "dagster-daemon run through entrypoint.sh")],
            ),
            (
                &["python"],
                &["start.py", "dagster-webserver"],
                &[(Some(Webserver), "dagster-webserver through start.py")],
            ),
            (&[], &["wait-for-it", "dagster-webserver:3000", "--", "python", "app.py"], &[(None, "app.py")]),
            (&[], &["proxy", "--to", "dagster-webserver"], &[(None, "proxy")]),
            (
                &[],
                &["sh", "-c", "dagster-daemon run & dagster-webserver"],
                &[(Some(Daemon), "dagster-daemon run"), (Some(Webserver), "dagster-webserver")],
            ),
            (&[], &["/usr/bin/sfdata-agent", "run"], &[(Some(Agent), "sfdata-agent")]),
            (&[], &["streamlit", "run", "dagster-daemon", "run"], &[(Some(Other), "streamlit")]),
            (&["bash"], &["/start.sh"], &[(None, "start.sh")]),
            (&[], &["echo secret-in-a-program's-place"], &[(None, "echo")]),
            (&[], &["p4ss word=/\u{7f}"], &[(None, "p4ss")]),
        ];
        for (entry_point, command, expected) in table {
            let expected: Vec<_> = expected.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect();
            assert_eq!(told(entry_point, command), expected, "{entry_point:?} {command:?}");
        }
    }

    #[test]
    fn a_daemon_is_found_also_where_it_is_only_handed_on() {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let may = |entry_point: &[&str], command: &[&str]| may_run_daemon(&owned(entry_point), &owned(command));
        for (entry_point, command) in [
            (&["dagster-daemon"][..], &["run"][..]),
            (&["/entrypoint.sh", "--verbose"], &["dagster-daemon", "run"]),
            (&["sh", "-ce"], &["dagster-daemon run"]),
            (&["sh", "-c"], &["exec '/opt/venv/bin/dagster-daemon' run"]),
            (&["supervise", "--program"], &["web & dagster-daemon run -w x"]),
            (&[], &["dagster", "dev"]),
            (&["sh", "-c", "dagster-daemon run"], &["true"]),
        ] {
            assert!(may(entry_point, command), "{entry_point:?} {command:?}");
        }
        for (entry_point, command) in [
            (&["sh", "-c"][..], &["exec dagster instance migrate"][..]),
            (&[], &["dagster-daemon", "liveness-check"]),
            (&["/entrypoint.sh"], &["dagster", "job", "execute", "-j", "dagster-daemon"]),
            (&[], &[]),
        ] {
            assert!(!may(entry_point, command), "{entry_point:?} {command:?}");
        }
    }

    #[test]
    fn nothing_that_could_be_a_secret_is_told() {
        assert_eq!(told(&[], &["hunter2:p@ss", "x"]), [(None, "a program".to_owned())]);
        assert_eq!(told(&[], &["sh", "-c", "TOKEN=hunter2 run-it --password hunter2"]), [(None, "run-it".to_owned())]);
    }
}
