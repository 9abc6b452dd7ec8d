//! Kafka in a container: the official image, or one that honours its `KAFKA_*` variables.

use std::time::Duration;

use testcontainers::ImageExt;
use testcontainers::core::IntoContainerPort;

use super::Running;
use super::engine::{Engine, image, publish};
use crate::guard::Guard;
use crate::native::{ATTEMPTS_MAX, free_port};
use crate::{Error, ready};

const READY_TIMEOUT: Duration = Duration::from_secs(120);
const CONTROLLER_PORT: u16 = 9093;

/// Starts a broker; again on another port when someone took its port meanwhile.
pub(super) async fn start(
    engine: &Engine,
    guard: &Guard,
    name: &str,
    jvm: &[String],
) -> Result<Running, Error> {
    let mut attempt = 1;
    loop {
        match serve(engine, guard, name, jvm, free_port()?).await {
            Err(Error::Docker { what, reason }) if attempt < ATTEMPTS_MAX && reason.contains("already") => {
                tracing::info!(what, reason, attempt, "Kafka's port was taken meanwhile; trying another");
                attempt += 1;
            }
            other => return other,
        }
    }
}

/// Kafka tells its clients its address, so the port outside has to be known before the start. It is the port
/// inside as well: then the address is good on both sides.
async fn serve(
    engine: &Engine,
    guard: &Guard,
    name: &str,
    jvm: &[String],
    port: u16,
) -> Result<Running, Error> {
    let address = format!("{}:{port}", engine.address());
    let (heap, performance): (Vec<_>, Vec<_>) =
        jvm.iter().map(String::as_str).partition(|flag| flag.starts_with("-Xm"));
    let variables = [
        ("KAFKA_NODE_ID", "1".to_owned()),
        ("KAFKA_PROCESS_ROLES", "broker,controller".to_owned()),
        ("KAFKA_LISTENERS", format!("PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:{CONTROLLER_PORT}")),
        ("KAFKA_ADVERTISED_LISTENERS", format!("PLAINTEXT://{address}")),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER".to_owned()),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned()),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", format!("1@127.0.0.1:{CONTROLLER_PORT}")),
        ("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false".to_owned()),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0".to_owned()),
        ("KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS", "4".to_owned()),
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS", "4".to_owned()),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1".to_owned()),
        ("KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR", "1".to_owned()),
        ("KAFKA_LOG_CLEANER_DEDUPE_BUFFER_SIZE", "4194304".to_owned()),
        // Both replace the image's own flags: two collectors on one command line are refused.
        ("KAFKA_HEAP_OPTS", heap.join(" ")),
        ("KAFKA_JVM_PERFORMANCE_OPTS", performance.join(" ")),
    ];
    let mut request = publish(image(name).with_exposed_port(port.tcp()).into(), engine, port, port);
    for (variable, value) in variables {
        request = request.with_env_var(variable, value);
    }
    let container = engine.start(guard, "kafka", request).await?;
    container.wait(ready::kafka(&address, READY_TIMEOUT, || Ok(()))).await?;
    Ok(Running { address, pid: container.pid().await })
}
