//! `GET /v1/products`.

use axum::Json;
use axum::extract::State;
use chassis::{Caller, Page, Problem, fault};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::{Catalog, Product, ProductId};

/// The routes of the catalog, without their token check.
pub fn router(catalog: Catalog) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list_products)).with_state(catalog)
}

/// A page of products.
#[derive(Debug, Serialize, ToSchema)]
struct ProductPage {
    products: Vec<ProductBody>,
    /// Send it as `after` for the next page; `null` on the last one.
    next: Option<Uuid>,
}

/// A product.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Product)]
struct ProductBody {
    id: Uuid,
    #[schema(example = "tea-100")]
    sku: String,
    name: String,
    price: PriceBody,
}

/// An amount in minor units of a currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Money)]
struct PriceBody {
    /// Minor units: cents for EUR.
    #[schema(example = 1290)]
    minor: i64,
    /// ISO 4217.
    #[schema(example = "EUR")]
    currency: String,
}

/// Lists the tenant's products, ordered by id.
#[utoipa::path(
    get, path = "/v1/products", tag = "products", security(("token" = [])),
    params(
        ("limit" = Option<u16>, Query, description = "entries of a page, 1 to 200; default 50", minimum = 1, maximum = 200),
        ("after" = Option<Uuid>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, body = ProductPage),
        (status = 400, description = "limit or after can't be read", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "no valid token", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "try again", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list_products(
    State(catalog): State<Catalog>,
    caller: Caller,
    page: Page<ProductId>,
) -> Result<Json<ProductPage>, Problem> {
    let products = catalog.list(&caller.tenant, page).await.map_err(|error| fault::problem(&error))?;
    let next = page.next(&products, |product| product.id.uuid());
    Ok(Json(ProductPage { products: products.into_iter().map(ProductBody::from).collect(), next }))
}

impl From<Product> for ProductBody {
    fn from(product: Product) -> Self {
        let price = PriceBody { minor: product.price.minor, currency: product.price.currency.to_string() };
        Self { id: product.id.uuid(), sku: product.sku, name: product.name, price }
    }
}
