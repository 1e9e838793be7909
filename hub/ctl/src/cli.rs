//! The shape of the command line: what every command takes, and the nouns.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, ValueEnum as _};
use sfdata_common::{
    limits,
    telemetry::traces::{self, Telemetry, Tracer},
};

use crate::{
    commands,
    exit::{Exit, Usage},
    keyring::Keyring,
    output::{self, Format, Output},
};

const AFTER_HELP: &str = "\
Exit codes:
  0  done; a command: every target succeeded
  1  nothing was done: an error before or at submission; audit verify: the chain is broken
  2  the arguments make no sense
  3  ended, and at least one target did not succeed
  4  still under way when the time ran out
  5  denied by the hub

Examples:
  hubctl login sfjoin_...                        Join a hub with an operator's token
  hubctl agents list                             See every LA at once
  hubctl ecs status --group pilot                See the Dagster services of a group
  hubctl ecs restart daemon --agent northshire   Restart a service and wait for it";

/// Operate the data platforms of local authorities through their hub
#[derive(Debug, Parser)]
#[command(name = "hubctl", version, after_help = AFTER_HELP, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    noun: commands::Noun,
}

impl Cli {
    /// Do what was asked.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let context = self.global.context()?;
        let exit = self.noun.run(&context).await;
        context.tracer.stop(limits::TRACE_FLUSH).await;
        exit
    }

    /// Hand in what a command line within this one orders as a proposal.
    pub(crate) async fn propose(context: &Context, words: Vec<OsString>, lives: Duration) -> anyhow::Result<Exit> {
        let words = ["hubctl".into()].into_iter().chain(context.global.clone()).chain(words);
        let inner = Self::try_parse_from(words).map_err(|error| Usage(error.to_string().trim_end().to_owned()))?;
        let context = Context { proposing: Some(lives), tracer: context.tracer.clone(), ..inner.global.context()? };
        inner.noun.run(&context).await
    }
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Profile to use: one for each hub
    #[arg(
        long,
        global = true,
        env = "SFDATA_PROFILE",
        hide_env_values = true,
        default_value = "default",
        value_name = "NAME"
    )]
    profile: String,
    /// Folder of the profiles [default: ~/.config/sfdata]
    #[arg(long, global = true, env = "SFDATA_HOME", hide_env_values = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Address of the hub, instead of the profile's
    #[arg(long, global = true, value_name = "HOST:PORT")]
    hub: Option<String>,
    /// Send traces of commands to this collector, as in http://127.0.0.1:4317: OTLP over gRPC
    #[arg(long, global = true, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// File of mode 0600 with the passphrase of a key, instead of asking at the terminal
    #[arg(long, global = true, env = "SFDATA_PASSPHRASE_FILE", hide_env_values = true, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// How to print data
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Set to anything, it switches colours off (no-color.org).
    #[arg(long, global = true, env = "NO_COLOR", hide = true)]
    no_color: Option<String>,
}

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// The profile's folder, which need not exist.
    pub(crate) folder: PathBuf,
    /// Address that replaces the profile's.
    pub(crate) hub: Option<String>,
    /// Where data goes.
    pub(crate) output: Output,
    /// Where a command's time goes.
    pub(crate) tracer: Tracer,
    /// What is ordered is handed in as a proposal, which lives so long.
    pub(crate) proposing: Option<Duration>,
    /// The global options once more, for a command line within this one.
    pub(crate) global: Vec<OsString>,
    /// Opens private keys.
    pub(crate) keyring: Keyring,
}

impl Global {
    fn context(self) -> Result<Context, Usage> {
        let global = self.again();
        let home = match self.home {
            Some(home) => home,
            None => std::env::home_dir()
                .map(|home| home.join(".config/sfdata"))
                .ok_or_else(|| Usage("this user has no home folder; name one for the profiles with --home".into()))?,
        };
        let no_colour = self.no_color.is_some_and(|value| !value.is_empty());
        Ok(Context {
            folder: profile_folder(&home, &self.profile)?,
            hub: self.hub,
            output: Output::new(self.output, no_colour),
            tracer: tracer(self.otlp_endpoint),
            proposing: None,
            global,
            keyring: Keyring::new(self.passphrase_file),
        })
    }

    fn again(&self) -> Vec<OsString> {
        let format = self.output.to_possible_value().map(|value| value.get_name().to_owned());
        let mut words: Vec<OsString> = vec!["--profile".into(), self.profile.clone().into()];
        let mut add = |option: &str, value: Option<OsString>| {
            words.extend(value.into_iter().flat_map(|value| [option.into(), value]));
        };
        add("--home", self.home.clone().map(Into::into));
        add("--hub", self.hub.clone().map(Into::into));
        add("--output", format.map(Into::into));
        words
    }
}

/// The variables may be meant for other programs: what makes no sense to us holds up no operator.
fn tracer(otlp_endpoint: Option<String>) -> Tracer {
    let telemetry = Telemetry { otlp_endpoint: otlp_endpoint.filter(|text| !text.is_empty()) };
    Tracer::start(&telemetry, "hubctl", env!("CARGO_PKG_VERSION"), None).unwrap_or_else(|error| {
        output::warn(match error {
            traces::Error::Endpoint(wrong) => {
                format!("nothing is traced: --otlp-endpoint (or OTEL_EXPORTER_OTLP_ENDPOINT) {wrong}")
            }
            wrong @ traces::Error::Variable { .. } => format!("nothing is traced: {wrong}"),
        });
        Tracer::default()
    })
}

/// A profile's name is one folder's name, never a path.
fn profile_folder(home: &Path, name: &str) -> Result<PathBuf, Usage> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || !name.chars().all(legal) {
        return Err(Usage(format!("{name:?} is not the name of a profile: use letters, digits, hyphens, underscores")));
    }
    Ok(home.join(name))
}

/// A SHA-256, as a plan's or a root key's is printed.
pub(crate) fn digest(text: &str) -> Result<[u8; 32], String> {
    let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "a digest has 64 hexadecimal digits".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_profile_is_a_name_not_a_path() {
        let home = Path::new("/home/a");
        assert_eq!(profile_folder(home, "north_1").unwrap(), home.join("north_1"));
        for bad in ["", "..", "a/b", "/etc"] {
            assert!(profile_folder(home, bad).is_err(), "{bad}");
        }
    }

    /// Help of the whole tree, so that every change of a name or a default is seen. The global options are the same
    /// everywhere and shown once.
    fn help(command: &clap::Command, path: &str, out: &mut String) {
        let path = format!("{path} {}", command.get_name()).trim().to_owned();
        let mut shown = command.clone().term_width(110).bin_name(&path);
        let text = shown.render_help().to_string();
        let mut global = false;
        out.push_str(&format!("$ {path} --help\n"));
        for line in text.lines().map(str::trim_end) {
            global = (global && !line.is_empty()) || (line == "Global options:" && path != "hubctl");
            if !global {
                out.push_str(line);
                out.push('\n');
            }
        }
        out.push('\n');
        command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(|sub| help(sub, &path, out));
    }

    #[test]
    fn help_reads_well() {
        let mut command = Cli::command();
        command.build();
        let mut text = String::new();
        help(&command, "", &mut text);
        insta::assert_snapshot!(text);
    }
}
