//! Amounts and currencies that are none.

use super::*;

/// Every row of every table, as the database has it: another row, or another version of one, shows. But for leases, which are
/// renewed.
async fn rows(world: &World) -> Vec<String> {
    let tables = "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind = 'r' and n.nspname in ('payments', 'outbox', 'strangler') and c.relname not like '%lease%'
        order by 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&world.admin).await.unwrap();
    assert!(tables.iter().any(|table| table == "payments.intent"), "{tables:?}");
    let mut rows = Vec::new();
    for table in tables {
        let sql =
            format!("select '{table} ' || t.xmin::text || ' ' || md5(t::text) from {table} t order by 1");
        let more = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).fetch_all(&world.admin).await;
        rows.extend(more.unwrap());
    }
    rows
}

#[tokio::test]
async fn each_bad_amount_has_its_code_and_changes_no_row() {
    let world = World::new("amounts").await;
    let id = world.captured().await;
    let before = rows(&world).await;
    let client = world.client();
    let with = |amount_minor, currency: Option<&str>| {
        let mut request = refund(id, amount_minor, "r1");
        request.get_mut().currency = currency.map(Into::into);
        request
    };
    let mut foreign = with(1, None);
    set_tenant(&mut foreign, "globex").unwrap();
    for (request, code, reason, field) in [
        (with(0, None), Code::InvalidArgument, "AMOUNT_ZERO", "amount_minor"),
        (with(-1, None), Code::InvalidArgument, "AMOUNT_NEGATIVE", "amount_minor"),
        (with(i64::MIN, None), Code::InvalidArgument, "AMOUNT_NEGATIVE", "amount_minor"),
        (with(i64::MAX, None), Code::FailedPrecondition, "AMOUNT_TOO_LARGE", ""),
        (with(1_001, Some("EUR")), Code::FailedPrecondition, "AMOUNT_TOO_LARGE", ""),
        (with(1, Some("USD")), Code::InvalidArgument, "CURRENCY_MISMATCH", "currency"),
        (with(1, Some("XXX")), Code::InvalidArgument, "CURRENCY_UNKNOWN", "currency"),
        (with(1, Some("eur")), Code::InvalidArgument, "CURRENCY_UNKNOWN", "currency"),
        (refund(PaymentId::new(), 1, "r1"), Code::FailedPrecondition, "NOT_OWNER", ""),
        (foreign, Code::NotFound, "NOT_FOUND", ""),
    ] {
        let what = format!("{:?}", request.get_ref());
        let status = client.clone().refund_payment(request).await.unwrap_err();
        let details = status.get_error_details();
        let fields = details.bad_request().map(|it| it.field_violations.as_slice()).unwrap_or_default();
        let named = fields.first().map(|it| it.field.as_str()).unwrap_or_default();
        // The whole call's reason, or what is wrong with the field.
        let wrong = fields.first().map(|it| it.reason.as_str()).unwrap_or_default();
        let told = details.error_info().map_or(wrong, |it| it.reason.as_str());
        assert_eq!((status.code(), told, named), (code, reason, field), "{what}");
    }
    for (minor, currency, reason) in [
        (0, "EUR", "AMOUNT_ZERO"),
        (-1, "EUR", "AMOUNT_NEGATIVE"),
        (1, "ZZZ", "CURRENCY_UNKNOWN"),
        (1, "", "CURRENCY_UNKNOWN"),
    ] {
        let amount = Some(v1::Money { minor, currency: currency.into() });
        let status = client.clone().quote_fee(v1::QuoteFeeRequest { amount }).await.unwrap_err();
        let details = status.get_error_details();
        let field = &details.bad_request().unwrap().field_violations[0];
        let told = (status.code(), field.field.as_str(), field.reason.as_str());
        assert_eq!(told, (Code::InvalidArgument, "amount", reason), "{minor} {currency}");
    }
    assert_eq!(rows(&world).await, before);
    assert_eq!(world.get(id).await.refunded_minor, 0);
    let touched = "update payments.payment set updated_at = updated_at where id = $1";
    sqlx::query(touched).bind(id.uuid()).execute(&world.admin).await.unwrap();
    assert_ne!(rows(&world).await, before, "a row that is written again shows");
    client.clone().refund_payment(with(1, Some("EUR"))).await.unwrap();
    world.end().await;
}
