//! The LA's own say from its command line: what its rules would answer, and its word on what waits for it.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use jiff::civil::DateTime;
use sfdata_agent::{
    approvals::Approvals,
    config::Config,
    identity::Identity,
    policy::{
        Brake, Rules,
        explain::{Case, Explained},
    },
};
use sfdata_common::{
    Timestamp,
    ids::{CommandId, OperatorName},
    policy::local,
    trust::Role,
};

/// The rules deny it.
const DENIED: u8 = 3;

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    // For people.
    Text,
    // One JSON document, for programs.
    Json,
}

#[derive(Subcommand)]
pub(super) enum Policy {
    /// Say what is wrong with policy and freezes, and exit with 1 if anything is; rules that can never apply are told
    Check,
    /// Say what a command would meet, and by which rules; exit with 0 if it is allowed, 3 if it is denied
    Explain(Explain),
}

#[derive(Args)]
pub(super) struct Explain {
    /// Who would order it
    #[arg(long, value_name = "NAME")]
    operator: OperatorName,
    /// What the trust bundle makes of them; again for several
    #[arg(long, value_name = "ROLE", required = true, value_parser = role)]
    role: Vec<Role>,
    /// What they would order, as in ecs.restart
    #[arg(long)]
    action: String,
    /// Where an action may be of several classes: this one, in place of the gravest; a plan is of class read
    #[arg(long)]
    class: Option<String>,
    /// When, in Europe/London, as in 2027-04-03T10:00; without it now
    #[arg(long, value_name = "TIME")]
    at: Option<DateTime>,
    /// Why, in the operator's words
    #[arg(long, default_value = "")]
    reason: String,
    /// How many different operators would have signed
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    signers: usize,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    output: Format,
}

fn role(text: &str) -> Result<Role, String> {
    let known = || Role::ALL.map(Role::as_str).join(", ");
    Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| format!("there are {}", known()))
}

impl Policy {
    pub(super) fn run(self, config: &Config) -> Result<ExitCode> {
        let rules = Rules::load(config.policy.as_deref(), &config.freeze)?;
        match self {
            Self::Check => check(config, &rules)?,
            Self::Explain(asked) => return asked.run(config, &rules),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn check(config: &Config, rules: &Rules) -> Result<()> {
    let mut said = io::stderr();
    for warning in rules.policy.warnings() {
        writeln!(said, "warning: {warning}")?;
    }
    let policy = match &config.policy {
        Some(path) => path.display().to_string(),
        None => "the policy that ships".to_owned(),
    };
    writeln!(said, "{policy} is valid")?;
    let now = Timestamp::now();
    for freeze in &rules.freezes {
        let state = match freeze {
            freeze if freeze.holds(now) => "in force",
            freeze if freeze.to < local(now).date() => "over",
            _ => "to come",
        };
        writeln!(said, "freeze {:?} from {} to {}: {state}", freeze.name, freeze.from, freeze.to)?;
    }
    Ok(())
}

impl Explain {
    fn run(self, config: &Config, rules: &Rules) -> Result<ExitCode> {
        let Self { operator, role: roles, action, class, at, reason, signers, output } = self;
        let case = Case { operator, roles, action, class, at, reason, signers };
        let hold = Brake::new(&config.data_dir).held();
        let joining = config.join.as_ref().map(|join| join.agent.clone());
        let agent = match Identity::id_in(&config.data_dir).or(joining) {
            Some(agent) => agent,
            None => "not-enrolled".parse()?,
        };
        let explained = Explained::of(case, rules, hold.as_ref(), &agent, Timestamp::now())?;
        let mut out = io::stdout().lock();
        match output {
            Format::Text => write!(out, "{explained}")?,
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&explained)?)?,
        }
        Ok(if explained.is_allowed() { ExitCode::SUCCESS } else { ExitCode::from(DENIED) })
    }
}

#[derive(Args)]
pub(super) struct List {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    output: Format,
}

impl List {
    pub(super) fn run(self, config: &Config) -> Result<()> {
        let list = Approvals::new(&config.data_dir).list()?;
        let mut out = io::stdout().lock();
        if let Format::Json = self.output {
            for (waiting, word) in list {
                let word = word.map(|word| word.name());
                writeln!(out, "{}", serde_json::json!({ "command": waiting, "word": word }))?;
            }
            return Ok(());
        }
        if list.is_empty() {
            writeln!(io::stderr(), "No command waits for approval")?;
        }
        for (waiting, word) in list {
            let until = local(waiting.until).strftime("%a %-d %b %Y %H:%M:%S").to_string();
            writeln!(out, "{}", waiting.id)?;
            writeln!(out, "  action    {}, of class {}", waiting.action, waiting.class)?;
            writeln!(out, "  operator  {}: {}", waiting.operator, clean(&waiting.reason))?;
            writeln!(out, "  order     {}", clean(&waiting.command))?;
            writeln!(out, "  targets   {}", waiting.targets.join(", "))?;
            waiting.plan.iter().try_for_each(|plan| writeln!(out, "  plan      {plan}"))?;
            writeln!(out, "  digest    {}", waiting.digest)?;
            writeln!(out, "  until     {until}")?;
            word.iter().try_for_each(|word| writeln!(out, "  {} by {}, not yet taken up", word.name(), word.by))?;
        }
        Ok(())
    }
}

/// What others wrote, without what would move a terminal's cursor.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[derive(Args)]
pub(super) struct Approve {
    /// Its id; see sfdata-agent approvals
    id: CommandId,
    /// A note for your own record
    #[arg(long, default_value = "")]
    reason: String,
}

impl Approve {
    pub(super) fn run(self, config: &Config) -> Result<()> {
        let waiting = Approvals::new(&config.data_dir).give(self.id, true, &self.reason, Timestamp::now())?;
        writeln!(
            io::stderr(),
            "Approved: {} by {} begins within seconds, unless your hold, policy or a freeze forbids it by now",
            waiting.action,
            waiting.operator
        )?;
        Ok(())
    }
}

#[derive(Args)]
pub(super) struct Refuse {
    /// Its id; see sfdata-agent approvals
    id: CommandId,
    /// Why, in your words; the operator sees it
    #[arg(long)]
    reason: String,
}

impl Refuse {
    pub(super) fn run(self, config: &Config) -> Result<()> {
        let waiting = Approvals::new(&config.data_dir).give(self.id, false, &self.reason, Timestamp::now())?;
        writeln!(io::stderr(), "Refused: {} by {}", waiting.action, waiting.operator)?;
        Ok(())
    }
}
