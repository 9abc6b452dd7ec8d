//! `GET /v1/ledger/trial-balance`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chassis::{Caller, Problem, Role};
use payments::{Account, Balance, Desk};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::payments::{problem, tenant};

const READERS: &[Role] = &[Role::Merchant];

type Payments = Arc<dyn Desk>;

/// The routes of the ledger, without their token check.
pub(super) fn router(payments: Payments) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(get_trial_balance)).with_state(payments)
}

/// What is booked for the tenant, by currency and account. In each currency the balances sum to zero. It may be a moment behind
/// what `GET /v1/payments/{id}` says.
#[utoipa::path(
    get, path = "/v1/ledger/trial-balance", tag = "ledger", security(("token" = [])),
    responses(
        (status = 200, body = TrialBalance),
        (status = 401, description = "no valid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "needs the role merchant", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "try again", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn get_trial_balance(
    State(payments): State<Payments>,
    caller: Caller,
) -> Result<Json<TrialBalance>, Problem> {
    caller.require(READERS)?;
    let balances = payments.trial_balance(&tenant(&caller)?).await.map_err(problem)?;
    Ok(Json(TrialBalance { balances: balances.iter().map(BalanceBody::from).collect() }))
}

/// All accounts that have bookings.
#[derive(Debug, Serialize, ToSchema)]
struct TrialBalance {
    balances: Vec<BalanceBody>,
}

/// What is booked on an account in one currency. Sums are whole minor units as text: they may need more than 64 bits.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountBalance)]
struct BalanceBody {
    account: AccountBody,
    /// ISO 4217.
    #[schema(example = "EUR")]
    currency: String,
    #[schema(example = "5000", pattern = "^[0-9]+$")]
    debits_minor: String,
    #[schema(example = "1290", pattern = "^[0-9]+$")]
    credits_minor: String,
    /// Debits less credits.
    #[schema(example = "3710", pattern = "^-?[0-9]+$")]
    balance_minor: String,
}

/// An account of the tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Account)]
enum AccountBody {
    Receivable,
    Clearing,
    Payable,
    Fees,
}

impl From<&Balance> for BalanceBody {
    fn from(balance: &Balance) -> Self {
        Self {
            account: balance.account.into(),
            currency: balance.currency.to_string(),
            debits_minor: balance.debits_minor.to_string(),
            credits_minor: balance.credits_minor.to_string(),
            balance_minor: balance.minor().to_string(),
        }
    }
}

impl From<Account> for AccountBody {
    fn from(account: Account) -> Self {
        match account {
            Account::Receivable => Self::Receivable,
            Account::Clearing => Self::Clearing,
            Account::Payable => Self::Payable,
            Account::Fees => Self::Fees,
        }
    }
}
