//! PostgreSQL and the tables of steps agree, for each row and each message.

use strangler::handover::{Facts, Refusal, source, target};
use strangler::{Epoch, Error, Home, Phase, Reply, Taken};

use crate::target::There;
use crate::world::World;

const QUIET: Facts = Facts { quiet: true, known: true };

const PLACES: [(Home, Phase); 4] = [
    (Home::Source, Phase::Settled),
    (Home::Source, Phase::Moving),
    (Home::Target, Phase::Settled),
    (Home::Target, Phase::Recalling),
];

impl World {
    async fn put(&self, (owner, phase): (Home, Phase)) -> source::Row {
        sqlx::query(
            "update strangler.owner set owner = $1, phase = $2, epoch = 5, granted_epoch = 3 where key = 'k'",
        )
        .bind(owner.name())
        .bind(phase.name())
        .execute(&self.admin)
        .await
        .unwrap();
        source::Row { owner, phase, epoch: Epoch(5), granted_epoch: Epoch(3) }
    }

    async fn stored(&self) -> source::Row {
        let (owner, phase, epoch, granted): (String, String, i64, i64) =
            sqlx::query_as("select owner, phase, epoch, granted_epoch from strangler.owner where key = 'k'")
                .fetch_one(&self.admin)
                .await
                .unwrap();
        let (owner, phase) = (owner.parse().unwrap(), phase.parse().unwrap());
        source::Row { owner, phase, epoch: Epoch(epoch), granted_epoch: Epoch(granted) }
    }
}

/// What the table makes of a row: the next one, or the same.
fn next(row: source::Row, message: source::Message, epoch: Epoch) -> source::Row {
    row.step(message, epoch, QUIET).map_or(row, |(next, _)| next)
}

fn verdict<T: std::fmt::Debug>(answer: Result<T, Error>) -> Result<(), Refusal> {
    match answer {
        Ok(_) => Ok(()),
        Err(Error::NotOwner { .. }) => Err(Refusal::NotOwner),
        Err(Error::Moving { .. }) => Err(Refusal::Moving),
        Err(Error::ForeignWrite { .. }) => Err(Refusal::ForeignWrite),
        Err(Error::Stale { .. }) => Err(Refusal::Stale),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_sources_row_is_what_the_table_says() {
    use source::Message as M;
    let world = World::new().await;
    world.primary(&["k"]).await;
    for place in PLACES {
        let row = world.put(place).await;
        for message in [M::Intent, M::Outcome] {
            let said = row.step(message, row.epoch, QUIET).map(drop);
            assert_eq!(verdict(world.lock("k").await), said, "{place:?} {message:?}");
        }
        let mut tx = world.writes_pool.begin().await.unwrap();
        let refused = row.step(M::Foreign, Epoch(0), QUIET).is_err();
        assert_eq!(world.writes.holds(&mut tx, "k").await.unwrap(), refused, "{place:?} foreign");
        drop(tx);
        for epoch in [4, 5, 6].map(Epoch) {
            let row = world.put(place).await;
            let mut tx = world.writes_pool.begin().await.unwrap();
            let taken = world.writes.take_back(&mut tx, "k", epoch).await;
            tx.commit().await.unwrap();
            let step = row.step(M::Released, epoch, QUIET);
            let mine = matches!(step, Ok((next, _)) if next.owner == Home::Source);
            assert_eq!(matches!(taken, Ok(Taken::Mine)), mine, "{place:?} {epoch}");
            assert_eq!(verdict(taken), step.map(drop), "{place:?} {epoch}");
            assert_eq!(world.stored().await, next(row, M::Released, epoch), "{place:?} {epoch}");
        }
        let row = world.put(place).await;
        let mut tx = world.writes_pool.begin().await.unwrap();
        let claim = "select claimed from strangler.claim_to_publish('payments', '{k}') as claimed";
        let claimed: Vec<String> = sqlx::query_scalar(claim).fetch_all(&mut *tx).await.unwrap();
        let said = row.step(M::Snapshot, Epoch(0), QUIET).is_ok();
        assert_eq!(claimed.len(), usize::from(said), "{place:?} snapshot");
        let fence = "select epoch from strangler.fence(
                         'payments', array(select strangler.claim_settled('payments', '{k}')))";
        let fenced: Vec<i64> = sqlx::query_scalar(fence).fetch_all(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let said = row.step(M::Fence, Epoch(0), QUIET).ok();
        let said: Vec<i64> = said.map(|(next, _)| next.epoch.get()).into_iter().collect();
        assert_eq!(fenced, said, "{place:?} fence");
        assert_eq!(world.stored().await, next(row, M::Fence, Epoch(0)), "{place:?} fence");
    }
    world.end().await;
}

fn rows() -> [Option<target::Row>; 4] {
    let row = |writable, recall_epoch| Some(target::Row { epoch: Epoch(5), writable, recall_epoch });
    [None, row(false, None), row(true, None), row(true, Some(Epoch(7)))]
}

#[tokio::test]
async fn the_targets_row_is_what_the_table_says_of_the_domain() {
    use target::Message as M;
    let there = There::new().await;
    for row in rows() {
        there.set(row, true, true).await;
        let step = |message, epoch| target::Row::step(row, message, epoch, QUIET);
        let mut tx = there.pool.begin().await.unwrap();
        let said = step(M::Intent, Epoch(0)).map(drop);
        assert_eq!(verdict(there.authority.lock(&mut tx, "k").await), said, "{row:?}");
        let said = step(M::Outcome, Epoch(0)).map(drop);
        assert_eq!(verdict(there.authority.lock_outcome(&mut tx, "k").await), said, "{row:?}");
        let refused = step(M::Foreign, Epoch(0)).is_err();
        assert_eq!(there.authority.holds(&mut tx, "k").await.unwrap(), refused, "{row:?}");
        drop(tx);
        for epoch in (4..=8).map(Epoch) {
            there.set(row, true, true).await;
            let mut tx = there.pool.begin().await.unwrap();
            let offered = there.authority.offered(&mut tx, "k", epoch).await;
            tx.commit().await.unwrap();
            assert_eq!(verdict(offered), step(M::Offered, epoch).map(drop), "{row:?} {epoch}");
            let after = step(M::Offered, epoch).map_or(row, |(after, _)| after);
            assert_eq!(there.row().await, after, "{row:?} {epoch}");
        }
        there.set(row, true, true).await;
        let mut tx = there.pool.begin().await.unwrap();
        there.authority.born(&mut tx, "k", Epoch::BIRTH).await.unwrap();
        tx.commit().await.unwrap();
        // A key is born once; where the table calls it an alarm, nothing changes.
        let after = step(M::Born, Epoch::BIRTH).map_or(row, |(after, _)| after);
        assert_eq!(there.row().await, after, "{row:?} born");
    }
    there.end().await;
}

#[tokio::test]
async fn the_targets_row_is_what_the_table_says_of_a_control_call() {
    use target::Message as M;
    let there = There::new().await;
    for row in rows() {
        for message in [M::Ready, M::Grant, M::Recall] {
            for (epoch, quiet, known) in (4..=8).flat_map(|epoch| {
                [(true, true), (true, false), (false, true), (false, false)]
                    .map(|(q, k)| (Epoch(epoch), q, k))
            }) {
                there.set(row, quiet, known).await;
                let keys = [("k".to_owned(), epoch)];
                let replies = match message {
                    M::Ready => there.target.ready(&keys).await,
                    M::Grant => there.target.grant(&keys).await,
                    _ => there.target.recall(&keys).await,
                };
                let step = target::Row::step(row, message, epoch, Facts { quiet, known });
                let case = format!("{row:?} {message:?} {epoch} quiet {quiet} known {known}");
                let refused = matches!(replies.unwrap()[0].1, Reply::NotYet | Reply::Stale);
                assert_eq!(refused, step.is_err(), "{case}");
                let after = step.map_or(row, |(after, _)| after);
                assert_eq!(there.row().await, after, "{case}");
                let publishes =
                    step.is_ok_and(|(_, step)| step.effect == strangler::handover::Effect::PublishRelease);
                assert_eq!(there.given().await.len(), usize::from(publishes), "{case}");
            }
        }
    }
    there.end().await;
}
