//! What a service is to Dagster.

/// What an ECS service is to the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Dagster's page.
    Webserver,
    /// Dagster's daemon: never two.
    Daemon,
    /// One code location.
    CodeServer,
    /// Anything else that belongs to the platform.
    Other,
}

impl Role {
    /// `webserver`, `daemon`, `code-server` or `other`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webserver => "webserver",
            Self::Daemon => "daemon",
            Self::CodeServer => "code-server",
            Self::Other => "other",
        }
    }

    /// The setting that names services of this role.
    pub fn key(self) -> &'static str {
        match self {
            Self::Webserver => "platform.webserver",
            Self::Daemon => "platform.daemon",
            Self::CodeServer => "platform.code_servers",
            Self::Other => "platform.other_services",
        }
    }
}
