//! The HTTP API: the modules' routes behind one token check, and their OpenAPI description.

mod ledger;
mod payments;

use std::sync::Arc;

use ::payments::Desk;
use axum::Router;
use axum::routing::get;
use catalog::Catalog;
use chassis::server;
use chassis::token::{Verifier, guard};
use orders::Orders;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use webhooks::Receiver;

/// What the API serves.
#[derive(Clone)]
pub struct Shop {
    /// Products.
    pub catalog: Catalog,
    /// Orders.
    pub orders: Orders,
    /// Payments, at whichever home.
    pub payments: Arc<dyn Desk>,
    /// The provider's webhooks.
    pub webhooks: Receiver,
}

/// What stands behind the token check, what stands beside it, and the description of both.
struct Described {
    guarded: Router,
    open: Router,
    api: OpenApi,
}

/// The API. Every route needs a token but its description and the provider's webhooks, which are signed.
pub fn router(shop: Shop, verifier: Verifier) -> Router {
    let Described { guarded, open, api } = described(shop);
    let api = Arc::new(api);
    let describe = get(move || async move { axum::Json(api.as_ref().clone()) });
    let open = open.merge(Router::new().route("/openapi.json", describe));
    server::edge(guard(guarded, verifier).merge(open))
}

/// The description of the API, as `GET /openapi.json` gives it.
pub fn openapi(shop: Shop) -> OpenApi {
    described(shop).api
}

fn described(shop: Shop) -> Described {
    let info = InfoBuilder::new()
        .title("Banyan's shop")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Products, orders and payments of one tenant, named by the token. Errors are RFC 9457 problems. Anything that looks \
             like a card number is refused with 422.",
        ))
        .build();
    let token =
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build());
    let mut components = Components::new();
    components.add_security_scheme("token", token);
    let api = OpenApiBuilder::new().info(info).components(Some(components)).build();
    let (guarded, mut api) = OpenApiRouter::with_openapi(api)
        .merge(catalog::router(shop.catalog))
        .merge(orders::router(shop.orders))
        .merge(ledger::router(Arc::clone(&shop.payments)))
        .merge(payments::router(shop.payments))
        .split_for_parts();
    let (open, signed) = webhooks::router(shop.webhooks).split_for_parts();
    api.merge(signed);
    Described { guarded, open, api }
}
