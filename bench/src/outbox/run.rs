//! One run: the rows in their order, and the report that grows with each.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    contender::Contender,
    options::{Options, Row},
    rows,
};
use crate::{
    ground::{Ground, Scene},
    machine,
    report::{Circumstances, Claim, Delivery, Figure, Report, SCHEMA},
};

/// A run under way.
pub(crate) struct Run {
    pub(crate) ground: Ground,
    pub(crate) options: Options,
    pub(crate) report: Report,
}

/// Runs the rows that were asked for.
pub(crate) async fn run(options: Options) -> Result<()> {
    let options = options.settled();
    let ground = Ground::new(options.stack).await?;
    let contenders =
        if options.peers || !options.only.is_empty() { &Contender::ALL[..] } else { &[Contender::Banyan] };
    let contenders = contenders.iter().map(|c| (c.name().to_owned(), c.settings().to_owned())).collect();
    let circumstances =
        Circumstances { contenders, ..machine::circumstances(&ground, options.facts()).await? };
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
        self.report.save(self.options.json.as_deref())
    }
}
