//! Placing an order.

use catalog::ProductId;
use chassis::shield;
use proto::{Money, OrderId, PaymentId, events};

use crate::order::price;
use crate::{Error, Line, NewOrder, Order, Orders, PaymentRequest, Status, store};

/// What a request to place an order came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// Accepted now.
    New(Order),
    /// Accepted by an earlier request with this key; the order as it was then.
    Replayed(Order),
}

/// An order with prices, not stored yet.
pub(crate) struct Draft {
    pub(crate) id: OrderId,
    pub(crate) new: NewOrder,
    pub(crate) lines: Vec<Line>,
    pub(crate) total: Money,
}

pub(crate) async fn place(orders: &Orders, new: NewOrder) -> Result<Placed, Error> {
    let Ok(room) = orders.placing.clone().try_acquire_owned() else {
        return earlier(orders, &new).await?.ok_or(Error::Full);
    };
    let (lines, total) = match priced(orders, &new).await {
        // A replay needs no prices: the product may be gone by now.
        Err(Error::Invalid(violations)) => {
            return earlier(orders, &new).await?.ok_or(Error::Invalid(violations));
        }
        priced => priced?,
    };
    let draft = Draft { id: OrderId::new(), new, lines, total };
    let accepting = orders.clone();
    shield(&orders.tasks, async move {
        let placed = accept(&accepting, draft).await;
        drop(room);
        placed
    })
    .await?
}

/// What was accepted under this key. Asked only where there is no transaction that looks anyway.
async fn earlier(orders: &Orders, new: &NewOrder) -> Result<Option<Placed>, Error> {
    replay(store::find_by_key(&orders.pool, &new.tenant, &new.key).await?, new)
}

/// Prices are read here, on the catalog's own pool: nothing slow happens inside the transaction.
async fn priced(orders: &Orders, new: &NewOrder) -> Result<(Vec<Line>, Money), Error> {
    let mut ids: Vec<ProductId> = new.lines.iter().map(|line| line.product).collect();
    ids.truncate(crate::LINES_MAX); // more lines are refused by `price`
    let products = orders.catalog.find(&new.tenant, &ids).await?;
    price(new, &products).map_err(Error::Invalid)
}

async fn accept(orders: &Orders, draft: Draft) -> Result<Placed, Error> {
    let mut tx = orders.pool.begin().await?;
    if !store::claim(&mut tx, &draft.new.tenant, &draft.new.key).await? {
        tx.rollback().await?;
        // Whoever has it may be a repeat as well.
        return earlier(orders, &draft.new).await?.ok_or(Error::InFlight);
    }
    // Looked up under the lock: whoever had it has ended.
    let found = store::find_by_key(&mut *tx, &draft.new.tenant, &draft.new.key).await?;
    if found.is_some() {
        // The key is free again before the caller hears of it.
        tx.rollback().await?;
        return replay(found, &draft.new)?.ok_or(Error::InFlight);
    }
    // Before our own rows: the migration row and the owner row come first in the order of locks.
    let payment =
        orders.payments.request(&mut tx, &draft.payment_request()).await.map_err(Error::Payments)?;
    let placed_at = store::insert(&mut tx, &draft, payment).await?;
    let order = draft.accepted(payment, placed_at);
    outbox::publish(&mut tx, &events::OrderPlaced::from(&order)).await?;
    tx.commit().await?;
    orders.wake.now();
    Ok(Placed::New(order))
}

fn replay(earlier: Option<(String, Order)>, new: &NewOrder) -> Result<Option<Placed>, Error> {
    match earlier {
        None => Ok(None),
        Some((fingerprint, _)) if fingerprint != new.fingerprint => Err(Error::KeyReused),
        Some((_, order)) => Ok(Some(Placed::Replayed(Order { status: Status::Placed, ..order }))),
    }
}

impl Draft {
    fn payment_request(&self) -> PaymentRequest {
        PaymentRequest {
            tenant: self.new.tenant.clone(),
            order: self.id,
            amount: self.total,
            capture_method: self.new.capture_method,
            payment_method: self.new.payment_method.clone(),
        }
    }

    fn accepted(self, payment: PaymentId, placed_at: time::OffsetDateTime) -> Order {
        Order {
            id: self.id,
            tenant: self.new.tenant,
            payment,
            status: Status::Placed,
            lines: self.lines,
            total: self.total,
            capture_method: self.new.capture_method,
            payment_method: self.new.payment_method,
            placed_at,
        }
    }
}
