//! The sources of `deploy/stack`, by name only: this crate depends on none of ours.

/// Where PostgreSQL and Kafka come from.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Stack {
    /// The first of the three below that works.
    Auto,
    /// The servers at DATABASE_URL and KAFKA_BOOTSTRAP_SERVERS.
    External,
    /// Containers of a Docker engine.
    Docker,
    /// Processes of its own: PostgreSQL's programs or a jar, and Kafka's jars on Java 17 or newer.
    Native,
}

impl Stack {
    /// The word that `stack run --stack` takes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::External => "external",
            Self::Docker => "docker",
            Self::Native => "native",
        }
    }
}
