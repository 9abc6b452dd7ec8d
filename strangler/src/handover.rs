//! The hand-over of a key from one home to the other, as two tables of steps. No I/O.
//!
//! [`source::STEPS`] are the steps of the row that says who owns the key (`strangler.owner`, at the source), [`target::STEPS`] those of the
//! row that says what the target may do with it (`strangler.authority`). [`source::Row::step`] and [`target::Row::step`] know no
//! other steps. Each step is one transaction at one home: a compare-and-swap of its row and, in that transaction, its
//! [`Effect`]. The model in `tests/model` calls these functions and explores every order of them; `docs/handover.md` shows the
//! tables, drawn from here.

mod effect;
mod guard;
pub mod source;
pub mod target;

pub use effect::Effect;
pub use guard::{Facts, Guard, Refusal};

#[cfg(test)]
mod page;
