//! Prices move to their service and come back, between real databases over a real Kafka.

mod moved;
mod operator;
mod place;
mod readme;
mod world;
