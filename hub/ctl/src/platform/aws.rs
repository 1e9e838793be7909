//! AWS, asked by its own command line: whoever installs a platform has it and is signed in by it, and hubctl needs no
//! credentials of its own.

use std::{io, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{process::Command, time::timeout};

/// A question takes so long at most; the slowest, of quotas, take seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("aws, the AWS command line, is not installed: see https://aws.amazon.com/cli")]
    Missing,
    #[error("aws {tried} could not be started")]
    Start { tried: String, source: io::Error },
    #[error("aws {tried} did not answer within {PATIENCE:?}")]
    Late { tried: String },
    /// AWS said no, or the command line did.
    #[error("aws {tried}: {said}")]
    Refused { tried: String, said: String },
    #[error("aws {tried} answered something that is no JSON")]
    Garbled { tried: String, source: serde_json::Error },
}

impl Error {
    /// Whether AWS's own code of the error is one of these.
    pub(crate) fn is(&self, codes: &[&str]) -> bool {
        match self {
            Self::Refused { said, .. } => codes.iter().any(|code| said.contains(&format!("({code})"))),
            _ => false,
        }
    }

    /// Whether these credentials may not ask.
    pub(crate) fn is_denied(&self) -> bool {
        self.is(&["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AccessDeniedFault", "403"])
    }
}

/// Ask, by the words of the AWS command line, as in `["sts", "get-caller-identity"]`. Nothing of it changes anything.
pub(crate) async fn ask(words: &[&str]) -> Result<Value, Error> {
    let tried = || words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    let mut command = Command::new("aws");
    command.args(words).args(["--output", "json"]).env("AWS_PAGER", "");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(PATIENCE, command.output()).await {
        Err(_) => return Err(Error::Late { tried: tried() }),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Missing),
        Ok(Err(source)) => return Err(Error::Start { tried: tried(), source }),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        let said = if said.is_empty() { format!("it ended with {}", output.status) } else { said };
        return Err(Error::Refused { tried: tried(), said });
    }
    // Some calls answer nothing.
    if output.stdout.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output.stdout).map_err(|source| Error::Garbled { tried: tried(), source })
}

/// The account that the credentials are of.
pub(crate) async fn account() -> Result<String, Error> {
    let said = ask(&["sts", "get-caller-identity"]).await?;
    Ok(said["Account"].as_str().unwrap_or_default().to_owned())
}

/// The outputs of a stack, or none where there is no such stack.
pub(crate) async fn outputs(stack: &str) -> Result<Option<Vec<(String, String)>>, Error> {
    let Some(stack) = describe(stack).await? else { return Ok(None) };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let outputs = stack["Outputs"].as_array().into_iter().flatten();
    Ok(Some(outputs.map(|output| (text(&output["OutputKey"]), text(&output["OutputValue"]))).collect()))
}

/// A stack as CloudFormation describes it, if there is one.
pub(crate) async fn describe(stack: &str) -> Result<Option<Value>, Error> {
    match ask(&["cloudformation", "describe-stacks", "--stack-name", stack]).await {
        Ok(said) => Ok(said.pointer("/Stacks/0").cloned()),
        Err(Error::Refused { said, .. }) if said.contains("does not exist") => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_is_what_stands_in_brackets() {
        let said = "An error occurred (AccessDenied) when calling the GetRole operation: no";
        let error = Error::Refused { tried: "iam get-role".into(), said: said.into() };
        assert!(error.is_denied() && !error.is(&["NoSuchEntity"]));
        assert_eq!(error.to_string(), format!("aws iam get-role: {said}"));
    }
}
