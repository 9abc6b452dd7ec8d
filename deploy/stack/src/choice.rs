//! Where PostgreSQL and Kafka come from.

/// A source of PostgreSQL and Kafka; on a command line `--stack external|docker|native|auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// The first of the three below that works.
    #[default]
    Auto,
    /// Servers that run already, at `DATABASE_URL` and `KAFKA_BOOTSTRAP_SERVERS`.
    External,
    /// Containers of a Docker engine.
    Docker,
    /// Processes of our own on loopback.
    Native,
}

impl Choice {
    /// The name on a command line and in `BANYAN_STACK`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::External => "external",
            Self::Docker => "docker",
            Self::Native => "native",
        }
    }

    /// What someone does to make this source work.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Auto => "give one of external, docker and native what it needs",
            Self::External => {
                "export DATABASE_URL=postgres://SUPERUSER:PASSWORD@HOST:5432/postgres KAFKA_BOOTSTRAP_SERVERS=HOST:9092"
            }
            Self::Docker => {
                "sudo apt-get install docker.io && sudo systemctl start docker\n    \
                 (no registry: name images of your own in BANYAN_POSTGRES_IMAGE and BANYAN_KAFKA_IMAGE)"
            }
            Self::Native => "sudo apt-get install openjdk-17-jre-headless maven xz-utils postgresql",
        }
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
