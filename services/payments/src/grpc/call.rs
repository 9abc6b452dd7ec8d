//! What a call says beside and inside its message.

use std::time::Duration;

use chassis::deadline::deadline;
use chassis::service_token;
use payments::{Actor, Epoch, Error, IdempotencyKey, Page, Tenant, Violation};
use proto::homes::{ACTOR, AT_LEAST, EPOCH, MONOLITH};
use proto::{Currency, Money, MoneyError, PaymentId, payments as v1};
use time::OffsetDateTime;
use tonic::{Request, Status};
use uuid::Uuid;

use super::status;

/// The metadata that is read.
pub(super) const METADATA: &[&str] =
    &["authorization", "grpc-timeout", service_token::TENANT, ACTOR, EPOCH, AT_LEAST];

/// How long a call may take whose client named no deadline.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long before the client's deadline it is answered, so that the answer arrives and says why.
const ANSWER_BEFORE: Duration = Duration::from_millis(20);

/// What every call says beside its message.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) epoch: Epoch,
    within: Duration,
}

/// Whom a call is for.
pub(super) fn tenant<T>(request: &Request<T>) -> Result<Tenant, Status> {
    service_token::tenant(request)?.parse().map_err(|error: Error| status::of(&error))
}

/// Who asks, as the audit names them. Whoever has a service token is trusted to say.
pub(super) fn actor<T>(request: &Request<T>) -> Result<Actor, Status> {
    let name = match request.metadata().get(ACTOR) {
        None => service_token::peer(request)?.service.as_str(),
        // Anything else than visible ASCII is no actor, and neither is nothing.
        Some(value) => value.to_str().unwrap_or_default(),
    };
    name.parse().map_err(|error: Error| status::of(&error))
}

/// The version that a reader must see at least, when it says one.
pub(super) fn at_least<T>(request: &Request<T>) -> Result<Option<i64>, Status> {
    request.metadata().get(AT_LEAST).map(|value| whole_number(AT_LEAST, value.to_str().ok())).transpose()
}

fn whole_number(name: &str, text: Option<&str>) -> Result<i64, Status> {
    let number = text.and_then(|text| text.parse::<i64>().ok()).filter(|number| *number >= 0);
    number
        .ok_or_else(|| Status::invalid_argument(format!("metadata {name} must be a whole number from 0 on")))
}

impl Call {
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let epoch = match request.metadata().get(EPOCH) {
            None => Epoch::UNKNOWN.0,
            // For a payment that is on its way here it is a grant, which only the source can give.
            Some(_) if service_token::peer(request)?.service != MONOLITH => {
                return Err(Status::permission_denied(format!(
                    "metadata {EPOCH} is only the source's to send"
                )));
            }
            Some(value) => whole_number(EPOCH, value.to_str().ok())?,
        };
        let within = deadline(request)
            .map_or(ANSWER_WITHIN, |deadline| deadline.saturating_sub(ANSWER_BEFORE.min(deadline / 5)));
        Ok(Self { epoch: Epoch(epoch), within })
    }

    /// The desk's answer, or `DEADLINE_EXCEEDED`. A command that was accepted goes on, and its key answers later.
    pub(super) async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Status> {
        match tokio::time::timeout(self.within, answer).await {
            Ok(answer) => answer.map_err(|error| status::of(&error)),
            Err(_) => {
                Err(Status::deadline_exceeded("no answer in time; a command that was accepted goes on"))
            }
        }
    }
}

/// Reads the fields of a message and remembers every one that breaks a rule.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<Violation>);

impl Fields {
    /// What was read, if every field was good.
    pub(super) fn all<T>(self, read: Option<T>) -> Result<T, Status> {
        match read {
            Some(read) if self.0.is_empty() => Ok(read),
            _ => Err(status::of(&Error::Invalid(self.0))),
        }
    }

    pub(super) fn payment_id(&mut self, text: &str) -> Option<PaymentId> {
        self.read("payment_id", text.parse())
    }

    pub(super) fn key(&mut self, text: &str) -> Option<IdempotencyKey> {
        match text.parse() {
            Ok(key) => Some(key),
            Err(Error::Invalid(violations)) => {
                self.0.extend(violations);
                None
            }
            Err(error) => self.read("idempotency_key", Err(error)),
        }
    }

    pub(super) fn amount(&mut self, amount: Option<v1::Money>) -> Option<Money> {
        self.money("amount", amount.ok_or(MoneyError::Missing).and_then(Money::try_from))
    }

    pub(super) fn currency(&mut self, code: &str) -> Option<Currency> {
        self.money("currency", code.parse())
    }

    pub(super) fn page(&mut self, request: &v1::ListPaymentsRequest) -> Option<Page> {
        let size = match i64::from(request.page_size) {
            0 => Some(Page::SIZE_DEFAULT),
            size if (1..=Page::SIZE_MAX).contains(&size) => Some(size),
            _ => self.read(
                "page_size",
                Err(format!("1 to {} is allowed; 0 means {}", Page::SIZE_MAX, Page::SIZE_DEFAULT)),
            ),
        };
        let after = match request.page_token.as_str() {
            "" => Some(None),
            token => {
                self.read("page_token", token.parse().map_err(|_| "not a token of an earlier page")).map(Some)
            }
        };
        Some(Page { size: size?, after: after? })
    }

    /// A word of the provider's: 1 to 255 visible ASCII characters.
    pub(super) fn name(&mut self, field: &'static str, text: String) -> Option<String> {
        let good = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        self.read(field, good.then_some(text).ok_or("1 to 255 visible ASCII characters are needed"))
    }

    pub(super) fn uuid(&mut self, field: &'static str, text: &str) -> Option<Uuid> {
        self.read(field, text.parse())
    }

    pub(super) fn time(&mut self, field: &'static str, ms: i64) -> Option<OffsetDateTime> {
        self.read(field, OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000))
    }

    fn money<T>(&mut self, field: &'static str, read: Result<T, MoneyError>) -> Option<T> {
        match read {
            Err(error @ MoneyError::Currency(_)) => {
                self.0.push(Violation::of_currency(field, &error));
                None
            }
            read => self.read(field, read),
        }
    }

    fn read<T>(&mut self, field: &'static str, read: Result<T, impl ToString>) -> Option<T> {
        read.map_err(|error| self.0.push(Violation::new(field, error.to_string()))).ok()
    }
}
