//! The file with an account's parameters, as `deploy/load` reads it: lines `NAME=VALUE`, where `#` begins a comment.
//!
//! A value is checked against the templates before anything is done with it. A change to one line leaves all others, with
//! their comments, as people wrote them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::templates::Place;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the parameters in {path} cannot be read")]
    Read { path: PathBuf, source: io::Error },
    #[error("the parameters in {path} cannot be written")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path}, line {line}: no NAME=VALUE: {text}")]
    Line { path: PathBuf, line: usize, text: String },
    #[error("{path}, line {line}: no template of {place} has a parameter {name}")]
    Unknown { path: PathBuf, line: usize, place: &'static str, name: String },
    #[error("{path}, line {line}: {name} stands in an earlier line as well")]
    Twice { path: PathBuf, line: usize, name: String },
    #[error("{path}, line {line}: {name} cannot be {value:?}: {objection}")]
    Value { path: PathBuf, line: usize, name: String, value: String, objection: String },
    #[error("{path} names no {name}, which has no default; add a line {name}=...")]
    Missing { path: PathBuf, name: String },
}

/// A file, read.
#[derive(Debug, Clone)]
pub(crate) struct Parameters {
    path: PathBuf,
    place: Place,
    text: String,
    given: Vec<(String, String)>,
}

impl Parameters {
    /// Read and check it.
    pub(crate) fn read(path: &Path, place: Place) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Self::parse(path, place, text)
    }

    /// What kind of account a file is for: that of the templates that know all of its names.
    pub(crate) fn read_any(path: &Path) -> Result<Self, Error> {
        match (Self::read(path, Place::Child), Self::read(path, Place::Core)) {
            // Whose templates know more of it, before the slip.
            (Err(Error::Unknown { line, .. }), Err(error @ Error::Unknown { line: of_core, .. })) if of_core > line => {
                Err(error)
            }
            (Err(Error::Unknown { .. }), core @ (Ok(_) | Err(Error::Value { .. } | Error::Twice { .. }))) => core,
            (child, _) => child,
        }
    }

    /// Of a text that is or will be in that file.
    pub(crate) fn parse(path: &Path, place: Place, text: String) -> Result<Self, Error> {
        let known = place.parameters();
        let mut given: Vec<(String, String)> = Vec::new();
        for (line, content) in (1..).zip(text.split_terminator('\n')) {
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let path = || path.to_path_buf();
            let Some((name, value)) = content.split_once('=').filter(|_| !content.contains('\r')) else {
                return Err(Error::Line { path: path(), line, text: content.into() });
            };
            let name = name.to_owned();
            let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
                return Err(Error::Unknown { path: path(), line, place: place.name(), name });
            };
            if given.iter().any(|(other, _)| *other == name) {
                return Err(Error::Twice { path: path(), line, name });
            }
            let value = match value.strip_prefix('@') {
                Some(file) => {
                    let file = path().with_file_name(file);
                    let text = fs::read_to_string(&file).map_err(|source| Error::Read { path: file, source })?;
                    text.trim_end_matches('\n').to_owned()
                }
                None => value.to_owned(),
            };
            if let Some(objection) = parameter.objection(&value) {
                return Err(Error::Value { path: path(), line, name, value, objection });
            }
            given.push((name, value));
        }
        Ok(Self { path: path.into(), place, text, given })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// What the file itself says.
    pub(crate) fn given(&self) -> &[(String, String)] {
        &self.given
    }

    /// What the file says, or else the template's default.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let given = self.given.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        given.or_else(|| {
            let known = self.place.templates().iter().find_map(|template| template.parameter(name))?;
            known.default.as_deref()
        })
    }

    /// Parameters of the stacks that are asked for which have no default, and that the file does not name.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let asked = self.stacks();
        let stacks = self.place.templates().iter().filter(|template| asked.contains(&template.stack));
        let needed = stacks.flat_map(|template| &template.parameters).filter(|parameter| parameter.default.is_none());
        let mut missing: Vec<&str> =
            needed.map(|one| one.name.as_str()).filter(|name| self.get(name).is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// What there has to be.
    pub(crate) fn need(&self, name: &str) -> Result<&str, Error> {
        self.get(name).ok_or_else(|| Error::Missing { path: self.path.clone(), name: name.into() })
    }

    /// With another value in its line, in the one that shows its default, or in one more.
    pub(crate) fn with(&self, name: &str, value: &str) -> Result<Self, Error> {
        let mut lines: Vec<String> = self.text.lines().map(String::from).collect();
        let begins = |start: String| lines.iter().position(|line| line.starts_with(&start));
        let at = begins(format!("{name}=")).or_else(|| begins(format!("#{name}=")));
        let line = format!("{name}={value}");
        match at {
            Some(at) => lines[at] = line,
            None => lines.push(line),
        }
        Self::parse(&self.path, self.place, lines.join("\n") + "\n")
    }

    /// Write it whole or not at all.
    pub(crate) fn write(&self) -> Result<(), Error> {
        let failed = |source| Error::Write { path: self.path.clone(), source };
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = self.path.with_file_name(name);
        fs::write(&beside, &self.text).map_err(failed)?;
        fs::rename(&beside, &self.path).map_err(failed)
    }

    /// Which stacks they ask for, in their order: what `deploy/load` loads without names.
    pub(crate) fn stacks(&self) -> Vec<&'static str> {
        let is = |name: &str, value: &str| self.get(name) == Some(value);
        let has = |name: &str| self.get(name).is_some_and(|value| !value.is_empty());
        let asked = |stack: &str| match stack {
            "endpoints" => is("Network", "own"),
            // An adopted platform has its own.
            "storage" | "database" | "dagster-roles" | "dagster" => is("Storage", "new"),
            "balancer" => is("LoadBalancer", "yes") || is("Frontend", "yes"),
            "frontend" => is("Frontend", "yes"),
            "shared" => has("SharedWith"),
            "stackset" => has("OrganizationalUnitIds"),
            _ => true,
        };
        self.place.templates().iter().map(|template| template.stack).filter(|stack| asked(stack)).collect()
    }

    /// What a stack is called in CloudFormation, in this account. The core account has stacks of its own by an LA's names.
    pub(crate) fn stack_name(&self, stack: &str, account: &str) -> String {
        let beside = self.place == Place::Child && self.get("CoreAccount") == Some(account);
        format!("{}{}-{stack}", self.get("Prefix").unwrap_or("sfdata"), if beside { "-la" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Parameters, Error> {
        Parameters::parse(Path::new("camden.params"), Place::Child, text.into())
    }

    #[test]
    fn a_slip_is_told_with_its_line() {
        for (text, told) in [
            ("# one\nLaName=camden\nLaNam=x\n", "camden.params, line 3: no template of child has a parameter LaNam"),
            ("LaName=camden\nLaName=barnet\n", "camden.params, line 2: LaName stands in an earlier line as well"),
            ("LaName\n", "camden.params, line 1: no NAME=VALUE: LaName"),
            ("LaName=camden\r\n", "camden.params, line 1: no NAME=VALUE: LaName=camden\r"),
            ("Network=both\n", "camden.params, line 1: Network cannot be \"both\": it is one of own, shared"),
            ("MoreToml=@nowhere.toml\n", "the parameters in nowhere.toml cannot be read"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), told);
        }
        let missing = parse("Network=own\n").unwrap();
        let missing = missing.need("LaName").unwrap_err().to_string();
        assert_eq!(missing, "camden.params names no LaName, which has no default; add a line LaName=...");
    }

    #[test]
    fn one_line_is_changed_and_the_others_stay() {
        let file = parse("# ours\nLaName=camden\n\n# theirs\nAgentTag=1.0.0\n#Sleep=yes\n").unwrap();
        let changed =
            file.with("AgentTag", "1.1.0").unwrap().with("Network", "shared").unwrap().with("Sleep", "no").unwrap();
        assert_eq!(changed.text, "# ours\nLaName=camden\n\n# theirs\nAgentTag=1.1.0\nSleep=no\nNetwork=shared\n");
        assert!(file.with("Network", "both").is_err());
    }

    #[test]
    fn what_is_written_is_whole_and_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("camden.params");
        Parameters::parse(&path, Place::Child, "LaName=camden\n".into()).unwrap().write().unwrap();
        assert_eq!(Parameters::read_any(&path).unwrap().need("LaName").unwrap(), "camden");
        fs::write(&path, "LaName=camden\nLaNam=x\n").unwrap();
        assert!(Parameters::read_any(&path).unwrap_err().to_string().contains("line 2: no template of child"));
        fs::write(&path, "OrganizationId=o-a1b2c3d4e5\n").unwrap();
        assert_eq!(Parameters::read_any(&path).unwrap().place(), Place::Core);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_parameters_say_which_stacks_there_are() {
        let stacks = |text: &str| parse(text).unwrap().stacks().join(" ");
        assert_eq!(stacks(""), "network endpoints storage database dagster-roles dagster role agent");
        assert_eq!(stacks("Network=shared\nStorage=adopted\n"), "network role agent");
        assert!(stacks("Frontend=yes\n").contains("balancer dagster-roles dagster frontend"));
        let file = parse("CoreAccount=111111111111\n").unwrap();
        assert_eq!(file.stack_name("agent", "222222222222"), "sfdata-agent");
        assert_eq!(file.stack_name("agent", "111111111111"), "sfdata-la-agent");
    }
}
