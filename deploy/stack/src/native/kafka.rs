//! Kafka as a process of our own: one node that is broker and controller.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;

use super::java::Java;
use super::{ATTEMPTS_MAX, free_port, log, port_was_taken, postgres, still_running};
use crate::guard::Guard;
use crate::{Error, ready};

const FORMAT_TIMEOUT: Duration = Duration::from_secs(60);
const READY_TIMEOUT: Duration = Duration::from_secs(90);

/// Beside the flags that [`crate::config::Config`] has.
const JVM: [&str; 2] = ["-XX:-UsePerfData", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"];

/// Formats a log folder and starts the broker; answers its address.
pub(crate) async fn start(guard: &Guard, java: &Java, jars: &Path, jvm: &[String]) -> Result<String, Error> {
    let mut attempt = 1;
    loop {
        let (port, controller) = (free_port()?, free_port()?);
        let home = guard.folder().join(format!("kafka-{attempt}"));
        match serve(guard, java, jars, jvm, &home, port, controller).await {
            Ok(()) => return Ok(format!("127.0.0.1:{port}")),
            Err(error) if attempt < ATTEMPTS_MAX && port_was_taken(&error) => {
                tracing::info!(
                    port,
                    controller,
                    attempt,
                    "a port of Kafka's was taken meanwhile; trying others"
                );
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn serve(
    guard: &Guard,
    java: &Java,
    jars: &Path,
    jvm: &[String],
    home: &Path,
    port: u16,
    controller: u16,
) -> Result<(), Error> {
    std::fs::create_dir(home).map_err(Error::io(format!("create {}", home.display())))?;
    let properties = home.join("server.properties");
    std::fs::write(&properties, server_properties(home, port, controller))
        .map_err(Error::io(format!("write {}", properties.display())))?;

    let mut format = program(java, jars, jvm, home);
    format.args(["kafka.tools.StorageTool", "format", "--cluster-id"]).arg(cluster_id());
    format.arg("--config").arg(&properties);
    postgres::run(format, "kafka.tools.StorageTool format", FORMAT_TIMEOUT).await?;

    let path = home.join("kafka.log");
    let (out, err) = log::create(&path)?;
    let mut broker = program(java, jars, jvm, home);
    broker.arg("kafka.Kafka").arg(&properties).stdin(Stdio::null()).stdout(out).stderr(err);
    // Its log is thrown away with the folder: no need for the seconds of an orderly end.
    let pid = guard.spawn(&mut broker, "KILL")?;
    let address = format!("127.0.0.1:{port}");
    ready::kafka(&address, READY_TIMEOUT, || still_running(guard, pid, "kafka.Kafka", &path)).await
}

fn program(java: &Java, jars: &Path, jvm: &[String], home: &Path) -> Command {
    let mut command = Command::new(&java.program);
    // A JVM for another purpose may have left its options in the environment.
    command.env_remove("JAVA_TOOL_OPTIONS").env_remove("JDK_JAVA_OPTIONS");
    command.args(jvm).args(JVM).arg("-cp").arg(jars.join("*")).current_dir(home);
    command
}

/// A Kafka cluster id: 16 random bytes in URL-safe base 64.
fn cluster_id() -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(uuid::Uuid::now_v7().as_bytes())
}

fn server_properties(home: &Path, port: u16, controller: u16) -> String {
    let data = home.join("data");
    let data = data.display();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.cleaner.dedupe.buffer.size=4194304
"
    )
}
