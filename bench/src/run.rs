//! One run: the rows in their order, and the report that grows with each.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    contender::Contender,
    ground::{Ground, Scene},
    machine,
    options::{Options, Row},
    report::{Circumstances, Claim, Delivery, Figure, Report, SCHEMA},
    rows,
};

/// A run under way.
pub(crate) struct Run {
    pub(crate) ground: Ground,
    pub(crate) options: Options,
    pub(crate) report: Report,
}

/// Runs the rows that were asked for.
pub(crate) async fn outbox(options: Options) -> Result<()> {
    let options = options.settled();
    let ground = Ground::new(options.stack).await?;
    let contenders =
        if options.peers || !options.only.is_empty() { &Contender::ALL[..] } else { &[Contender::Banyan] };
    let contenders = contenders.iter().map(|c| (c.name().to_owned(), c.settings().to_owned())).collect();
    let circumstances = Circumstances { contenders, ..circumstances(&ground, options.facts()).await? };
    let report = Report { schema: SCHEMA, circumstances, ..Report::default() };
    let mut run = Run { ground, options, report };
    let began = Instant::now();
    for row in run.options.rows() {
        eprintln!("== {row:?}");
        match row {
            Row::Publish => rows::publish::run(&mut run).await?,
            Row::Drain => rows::drain::run(&mut run).await?,
            Row::Latency => rows::latency::run(&mut run).await?,
            Row::Inbox => rows::inbox::run(&mut run).await?,
            Row::Chaos => rows::chaos::run(&mut run).await?,
            Row::PeerDrain => rows::peer_drain::run(&mut run).await?,
            Row::PeerLatency => rows::peer_latency::run(&mut run).await?,
            Row::PeerWriters => rows::peer_writers::run(&mut run).await?,
            Row::PeerKills => rows::peer_kills::run(&mut run).await?,
        }
        run.report.circumstances.seconds = began.elapsed().as_secs();
        run.save()?;
    }
    print!("{}", run.report.summary());
    Ok(run.ground.stack.close().await?)
}

/// Machine, servers, build and command of a run that begins now.
pub(crate) async fn circumstances(
    ground: &Ground,
    options: BTreeMap<String, String>,
) -> Result<Circumstances> {
    let database = ground.stack.database("facts").await?;
    let pool = sqlx::PgPool::connect(database.url()).await?;
    let postgres = machine::postgres(&pool).await?;
    pool.close().await;
    database.drop_now().await?;
    // Without paths of this machine.
    let word = |word: String| if word.contains('/') { "FILE".to_owned() } else { word };
    let command: Vec<String> = std::env::args().skip(1).map(word).collect();
    let mut circumstances = Circumstances {
        started: OffsetDateTime::now_utc().format(&Rfc3339)?,
        command: format!("cargo xtask bench {}", command.join(" ")),
        machine: machine::machine()?,
        build: machine::build(),
        postgres,
        kafka: machine::kafka(ground).await?,
        options,
        ..Circumstances::default()
    };
    circumstances.machine.insert("stack".into(), ground.stack.source().to_owned());
    Ok(circumstances)
}

impl Run {
    /// Rounds with the warm-up before them, which is round 0.
    pub(crate) fn rounds(&self) -> std::ops::RangeInclusive<u32> {
        0..=self.options.rounds
    }

    /// A scene with its contender's schema.
    pub(crate) async fn scene(&self, contender: Contender, name: &str) -> Result<Scene> {
        Scene::new(&self.ground, contender, name).await
    }

    /// Waits for an idle machine.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        let timeout = Duration::from_secs(self.options.idle_seconds);
        machine::settle(&mut self.report.circumstances.starts, timeout).await
    }

    pub(crate) fn figures(&mut self, figures: impl IntoIterator<Item = Figure>) {
        self.report.figures.extend(figures);
    }

    pub(crate) fn claim(&mut self, claim: Claim) {
        self.report.claims.push(claim);
    }

    /// Adds what the verifier counted in one round to its scene's line.
    pub(crate) fn delivered(&mut self, scene: &str, contender: Contender, counted: Delivery) {
        let name = contender.name();
        let all = &mut self.report.deliveries;
        let at = all.iter().position(|line| line.scene == scene && line.contender == name);
        let at = at.unwrap_or_else(|| {
            all.push(Delivery { scene: scene.into(), contender: name.into(), ..Delivery::default() });
            all.len() - 1
        });
        all[at].add(counted);
    }

    fn save(&self) -> Result<()> {
        save(&self.report, self.options.json.as_deref())
    }
}

/// Writes all that was found so far, if a file was named for it.
pub(crate) fn save(report: &Report, path: Option<&Path>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
