//! `POST /v1/orders`, `GET /v1/orders`, `GET /v1/orders/{id}`.

mod body;

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chassis::problem::FieldError;
use chassis::{Caller, Idempotent, Page, Path, Problem, Role, fault};
use proto::OrderId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use self::body::{OrderBody, OrderPage, PlaceOrder, parse};
use crate::{Error, Order, Orders, Placed};

/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// When a client may ask again about a request in flight, or when there was no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);

const READERS: &[Role] = &[Role::Customer, Role::Merchant];

/// The routes of orders, without their token check.
pub fn router(orders: Orders) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(place_order, list_orders))
        .routes(routes!(get_order))
        .with_state(orders)
}

/// Places an order and opens its payment. Repeated with the same key and body, it answers as before, with the header
/// `idempotent-replayed: true`.
#[utoipa::path(
    post, path = "/v1/orders", tag = "orders", security(("token" = [])), request_body = PlaceOrder,
    params(("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters, new for each order")),
    responses(
        (status = 201, body = OrderBody),
        (status = 400, description = "broken JSON, wrong types, no key", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "no valid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "needs the role customer or merchant", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "the first request with this key is in flight", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "the body is over 64 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "a rule is broken, or the key belongs to another request", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "try again", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn place_order(
    State(orders): State<Orders>,
    caller: Caller,
    request: Idempotent<PlaceOrder>,
) -> Result<Response, Problem> {
    caller.require(READERS)?;
    let order = parse(caller.tenant, request).map_err(|violations| problem(Error::Invalid(violations)))?;
    Ok(match orders.place(order).await.map_err(problem)? {
        Placed::New(order) => created(order).into_response(),
        Placed::Replayed(order) => {
            ([(REPLAYED, HeaderValue::from_static("true"))], created(order)).into_response()
        }
    })
}

/// Reads an order.
#[utoipa::path(
    get, path = "/v1/orders/{id}", tag = "orders", security(("token" = [])), params(("id" = Uuid, Path)),
    responses(
        (status = 200, body = OrderBody),
        (status = 401, description = "no valid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "needs the role customer or merchant", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "no such order, or another tenant's", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "try again", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn get_order(
    State(orders): State<Orders>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<axum::Json<OrderBody>, Problem> {
    caller.require(READERS)?;
    let order = orders.find(&caller.tenant, OrderId::from_uuid(id)).await.map_err(problem)?;
    Ok(axum::Json(order.into()))
}

/// Lists the tenant's orders, newest first.
#[utoipa::path(
    get, path = "/v1/orders", tag = "orders", security(("token" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "entries of a page, 1 to 200; default 50", minimum = 1, maximum = 200),
        ("after" = Option<Uuid>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, body = OrderPage),
        (status = 400, description = "limit or after can't be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "no valid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "needs the role customer or merchant", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "try again", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list_orders(
    State(orders): State<Orders>,
    caller: Caller,
    page: Page<OrderId>,
) -> Result<axum::Json<OrderPage>, Problem> {
    caller.require(READERS)?;
    let found = orders.list(&caller.tenant, page).await.map_err(problem)?;
    let next = page.next(&found, |order| order.id.uuid());
    Ok(axum::Json(OrderPage { orders: found.into_iter().map(OrderBody::from).collect(), next }))
}

fn created(order: Order) -> impl IntoResponse {
    let location = format!("/v1/orders/{}", order.id);
    (StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(OrderBody::from(order)))
}

fn problem(error: Error) -> Problem {
    match error {
        Error::Invalid(violations) => Problem::validation(
            violations.into_iter().map(|violation| FieldError::new(violation.pointer, violation.detail)),
        ),
        Error::InFlight => Problem::in_flight(RETRY_AFTER),
        Error::KeyReused => Problem::key_reused(),
        Error::NotFound => Problem::not_found("there is no such order"),
        Error::Full => Problem::unavailable("too many orders at once; repeat the same request", RETRY_AFTER),
        Error::Payments(_)
        | Error::Catalog(_)
        | Error::Outbox(_)
        | Error::Broken(_)
        | Error::Lost(_)
        | Error::Database(_) => fault::problem(&error),
    }
}
