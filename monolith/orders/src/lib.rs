//! Orders: placed, then paid or cancelled as their payment ends.
//!
//! Owns schema `orders`. What it needs of payments is the trait [`Payments`]; whoever composes the process supplies it.
//! Products and prices come from [`catalog::Catalog`], which has a pool of its own.

mod error;
mod handlers;
mod http;
mod order;
mod orders;
mod payments;
mod place;
mod schema;
mod store;

pub use error::{Error, Violation};
pub use handlers::FollowPayment;
pub use http::router;
pub use order::{CaptureMethod, LINES_MAX, Line, NewLine, NewOrder, Order, QUANTITY_MAX, Status};
pub use orders::{Orders, PLACING_MAX};
pub use payments::{PaymentRequest, Payments};
pub use place::Placed;
pub use schema::{grant, migrations};
