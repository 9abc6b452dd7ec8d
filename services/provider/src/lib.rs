//! A stand-in payment provider in the shape of Stripe's API: payment intents and refunds, idempotency
//! keys, webhooks, scripted outcomes, and a journal on disk that tests take as ground truth.
//!
//! One request in order: it is read, its idempotency key is looked up, the rules decide a
//! change, the change becomes one line of the journal and of the book in memory, and the answer leaves
//! once the line is on disk. So an answer never outruns the journal, and a killed process knows all that
//! it ever said.

mod admin;
mod app;
mod book;
mod call;
mod clock;
mod config;
mod control;
mod event;
mod failure;
mod form;
mod http;
mod intent;
mod journal;
mod line;
mod provider;
mod refund;
mod rules;
mod script;
mod search;
mod settlement;
mod webhook;

pub use app::{Error, Running, start};
pub use config::Config;
pub use webhook::Webhooks;
