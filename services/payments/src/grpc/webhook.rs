//! A provider's notice as `payments.v1` has it.

use payments::{Delivered, Notice, Tenant};
use proto::payments as v1;
use tonic::Status;

use super::call::Fields;

pub(super) fn notice(message: v1::DeliverWebhookRequest, tenant: Tenant) -> Result<Notice, Status> {
    let mut fields = Fields::default();
    let id = fields.name("event_id", message.event_id);
    let kind = fields.name("kind", message.kind);
    let object = fields.name("object", message.object);
    let payment = fields.payment_id(&message.payment_id);
    let command = match message.command_id.as_str() {
        "" => Some(None),
        text => fields.uuid("command_id", text).map(Some),
    };
    let created = fields.time("created_ms", message.created_ms);
    let read = (|| Some((id?, kind?, object?, payment?, command?, created?)))();
    let (id, kind, object, payment, command, created) = fields.all(read)?;
    Ok(Notice { id, kind, object, status: message.status, payment, tenant, command, created })
}

pub(super) fn response(delivered: Delivered) -> v1::DeliverWebhookResponse {
    let (delivery, surprise) = match delivered {
        Delivered::Applied => (v1::Delivery::Applied, String::new()),
        Delivered::Surprise(what) => (v1::Delivery::Surprise, what),
        Delivered::Early => (v1::Delivery::Early, String::new()),
    };
    v1::DeliverWebhookResponse { delivery: delivery.into(), surprise }
}
