use sqlx::PgPool;

use super::{granting, note_granted, recalling, swap};
use crate::handover::Facts;
use crate::handover::source::{Message, Row};
use crate::{Epoch, Home, Phase};

const MIGRATION: &str = "parcels";
const FACTS: Facts = Facts { quiet: true, known: true };
const PLACES: [(Home, Phase); 4] = [
    (Home::Source, Phase::Settled),
    (Home::Source, Phase::Moving),
    (Home::Target, Phase::Settled),
    (Home::Target, Phase::Recalling),
];

/// Makes the only key's row.
async fn put(pool: &PgPool, (owner, phase): (Home, Phase)) -> Row {
    sqlx::query(
        "insert into strangler.owner (migration, key, tenant, owner, phase, epoch, granted_epoch, born_at, born_revision)
         values ($1, 'k', 'a', $2, $3, 5, 3, clock_timestamp(), 0)
         on conflict (migration, key) do update set owner = $2, phase = $3, epoch = 5, granted_epoch = 3",
    )
    .bind(MIGRATION)
    .bind(owner.name())
    .bind(phase.name())
    .execute(pool)
    .await
    .unwrap();
    Row { owner, phase, epoch: Epoch(5), granted_epoch: Epoch(3) }
}

async fn stored(pool: &PgPool) -> Row {
    let (owner, phase, epoch, granted): (String, String, i64, i64) =
        sqlx::query_as("select owner, phase, epoch, granted_epoch from strangler.owner")
            .fetch_one(pool)
            .await
            .unwrap();
    let (owner, phase) = (owner.parse().unwrap(), phase.parse().unwrap());
    Row { owner, phase, epoch: Epoch(epoch), granted_epoch: Epoch(granted) }
}

/// The epochs that a message's keys are at after it: none when no step was taken.
async fn send(pool: &PgPool, message: Message, epoch: Epoch) -> Vec<Epoch> {
    let keys = [("k".to_owned(), epoch)];
    if message == Message::Granted {
        let noted = note_granted(pool, MIGRATION, &keys).await.unwrap();
        return if noted == 1 { vec![epoch] } else { Vec::new() };
    }
    let swapped = swap(pool, MIGRATION, message, &keys).await.unwrap();
    swapped.into_iter().map(|(_, epoch)| epoch).collect()
}

#[tokio::test]
async fn the_controllers_changes_are_those_of_the_table() {
    use Message::{Cancel, Granted, Ready, Recall, TimeOut};
    let database = stack::shared().await.unwrap().database("moves").await.unwrap();
    let pool = PgPool::connect(database.url()).await.unwrap();
    crate::migrate_source(&pool, MIGRATION).await.unwrap();
    for place in PLACES {
        for message in [Ready, TimeOut, Granted, Recall, Cancel] {
            for epoch in [4, 5, 6].map(Epoch) {
                let row = put(&pool, place).await;
                // The table asks no epoch of a recall; what is recalled is the row that the controller has seen.
                let seen = message != Recall || epoch == row.epoch;
                let next = row.step(message, epoch, FACTS).ok().filter(|_| seen).map(|(next, _)| next);
                let case = format!("{place:?} {message:?} {epoch}");
                let now: Vec<Epoch> = next.map(|next| next.epoch).into_iter().collect();
                assert_eq!(send(&pool, message, epoch).await, now, "{case}");
                assert_eq!(stored(&pool).await, next.unwrap_or(row), "{case}");
            }
        }
    }
    database.drop_now().await.unwrap();
}

#[tokio::test]
async fn a_key_is_left_out_at_the_epoch_it_was_asked_at_and_at_no_other() {
    let database = stack::shared().await.unwrap().database("asked").await.unwrap();
    let pool = PgPool::connect(database.url()).await.unwrap();
    crate::migrate_source(&pool, MIGRATION).await.unwrap();
    let found = async |asked: i64| {
        let asked = || (vec!["k", "other"], vec![asked, 5]);
        let granting = granting(&pool, MIGRATION, asked(), 10).await.unwrap();
        let recalling = recalling(&pool, MIGRATION, asked(), 10).await.unwrap();
        (granting, recalling)
    };
    let key = || vec![("k".to_owned(), Epoch(5))];
    put(&pool, (Home::Target, Phase::Settled)).await;
    assert_eq!(found(4).await, (key(), Vec::new()));
    assert_eq!(found(5).await, (Vec::new(), Vec::new()));
    put(&pool, (Home::Target, Phase::Recalling)).await;
    assert_eq!(found(4).await, (Vec::new(), key()));
    assert_eq!(found(5).await, (Vec::new(), Vec::new()));
    database.drop_now().await.unwrap();
}
