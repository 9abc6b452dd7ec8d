//! Servers that run already.

use std::time::Duration;

use crate::config::Config;
use crate::{Error, ready};

/// An address that does not answer within this is not a source.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// The two addresses from the environment, after a look whether they answer.
pub(crate) async fn find(config: &Config) -> Result<(String, String), Error> {
    let (url, servers) = match (&config.database_url, &config.bootstrap_servers) {
        (Some(url), Some(servers)) => (url.clone(), servers.clone()),
        (Some(_), None) => return Err(Error::Missing("KAFKA_BOOTSTRAP_SERVERS is not set".to_owned())),
        (None, Some(_)) => return Err(Error::Missing("DATABASE_URL is not set".to_owned())),
        (None, None) => {
            return Err(Error::Missing("neither DATABASE_URL nor KAFKA_BOOTSTRAP_SERVERS is set".to_owned()));
        }
    };
    ready::postgres(&url, READY_TIMEOUT, || Ok(())).await?;
    ready::kafka(&servers, READY_TIMEOUT, || Ok(())).await?;
    Ok((url, servers))
}
