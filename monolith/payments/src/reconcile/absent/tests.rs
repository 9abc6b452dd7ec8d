use super::*;

const PATIENCE: Patience = Patience { late_after: Duration::hours(1), missing_after: Duration::hours(24) };

fn unseen(asked: OffsetDateTime, booked_at: OffsetDateTime) -> Unseen {
    Unseen {
        transaction: first_id(asked).max(Uuid::nil()),
        payment: PaymentId::new(),
        tenant: "acme".parse().unwrap(),
        minor: 1_000,
        currency: "EUR".parse().unwrap(),
        object: Some("pi_1".to_owned()),
        booked_at,
    }
}

#[test]
fn a_line_is_awaited_then_late_then_missing() {
    let booked = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let entry = unseen(booked, booked);
    let kind = |age| absent(&entry, booked + age, PATIENCE).map(|found| found.kind);
    let second = Duration::seconds(1);
    assert_eq!(kind(Duration::ZERO), None);
    assert_eq!(kind(PATIENCE.late_after - second), None);
    assert_eq!(kind(PATIENCE.late_after), Some(DifferenceKind::Late));
    assert_eq!(kind(PATIENCE.missing_after - second), Some(DifferenceKind::Late));
    assert_eq!(kind(PATIENCE.missing_after), Some(DifferenceKind::MissingThere));
    assert_eq!(kind(-PATIENCE.missing_after), None, "a clock that runs behind");
}

#[test]
fn what_a_replica_booked_later_is_as_old_as_its_command() {
    let asked = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let command = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 1_800_000_000, 0));
    let moved = |booked_at| Unseen { transaction: command, ..unseen(asked, booked_at) }.moved_at();
    // An unknown outcome was resolved hours later: the money moved then at the latest.
    assert_eq!(moved(asked + Duration::hours(5)), asked + Duration::hours(5));
    assert_eq!(moved(asked + Duration::days(30)), asked);
}

#[test]
fn ids_of_a_time_begin_with_it() {
    let second = 1_800_000_000;
    let at = OffsetDateTime::from_unix_timestamp(second).unwrap();
    let seconds = u64::try_from(second).unwrap();
    let made = |seconds| Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0));
    assert!(made(seconds - 1) < first_id(at) && first_id(at) < made(seconds));
    assert_eq!(time_of(made(seconds)), Some(at));
    assert_eq!(time_of(Uuid::new_v4()), None, "an id without a time");
}
