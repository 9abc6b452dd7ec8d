//! Taking payments as their owner publishes them whole, one or many at a time.

use std::collections::HashMap;

use outbox::{BoxError, Meta};
use proto::{PaymentId, PaymentStream, events as wire};
use sqlx::postgres::PgTransaction;

use super::Replicate;
use crate::events::{self, read_accepted, read_adjustment, read_answer, read_key, read_ledger, read_state};
use crate::reconcile::Accepted;
use crate::store::Kept;
use crate::whole::{hash, hashes};
use crate::{Adjustment, Epoch, Error, Payment, Transaction, movable, store};

/// A record that carries a payment's whole.
pub(super) struct Record {
    payment: PaymentId,
    version: i64,
    whole: wire::PaymentSnapshot,
    why: Why,
}

/// What its owner published it for.
enum Why {
    /// A backfill, or a repair.
    Stated,
    /// The payment is offered at this epoch; with the hash that its owner gave it.
    Offered(Epoch, Vec<u8>),
    /// It is given back.
    Released(Epoch, Vec<u8>),
}

/// A record as this program understands it.
struct Read {
    payment: Payment,
    ledger: Vec<Transaction>,
    adjustments: Vec<Adjustment>,
    answers: Vec<Kept>,
    accepted: Vec<Accepted>,
    given: Option<Given>,
}

/// Of a payment that changes its home.
struct Given {
    /// The hash that its owner gave it.
    theirs: Vec<u8>,
    /// The hash of what this program writes: a field that it does not know, or that was left out, makes no other copy of it.
    taken: Vec<u8>,
    /// It may be refused: its owner keeps it then.
    is_offer: bool,
}

/// A payment whose copy here was not its owner's at the version before, or still is not.
struct Mismatch {
    payment: PaymentId,
    version: i64,
    mended: bool,
    is_offer: bool,
}

/// This home's copies by payment: the version, and the hash.
type Copies = HashMap<PaymentId, (i64, Vec<u8>)>;

impl Record {
    /// Of an event that carries a payment's whole.
    pub(super) fn of(event: PaymentStream, meta: &Meta) -> Result<Self, BoxError> {
        let (whole, why) = match event {
            PaymentStream::Snapshot(whole) => (Some(whole), Why::Stated),
            PaymentStream::Offered(wire::AuthorityOffered { epoch, whole, hash }) => {
                (whole, Why::Offered(Epoch(epoch), hash))
            }
            PaymentStream::Released(wire::AuthorityReleased { epoch, whole, hash }) => {
                (whole, Why::Released(Epoch(epoch), hash))
            }
            PaymentStream::Requested(_)
            | PaymentStream::Authorized(_)
            | PaymentStream::Captured(_)
            | PaymentStream::Declined(_)
            | PaymentStream::Voided(_)
            | PaymentStream::Refunded(_)
            | PaymentStream::Adjusted(_) => (None, Why::Stated),
        };
        let whole = whole.ok_or("the record has no payment")?;
        let payment = read_key(&meta.key)?;
        if whole.state.as_ref().is_none_or(|state| state.payment_id != payment.to_string()) {
            return Err("the record is of another payment than its key".into());
        }
        Ok(Self { payment, version: meta.version, whole, why })
    }

    fn read(self) -> Result<Read, BoxError> {
        let Self { version, whole, why, .. } = self;
        let payment = read_state(whole.state.ok_or("the snapshot has no state")?, version)?;
        let ledger = read_ledger(whole.ledger)?;
        let taken = || {
            hash(&wire::PaymentSnapshot {
                state: Some(events::state(&payment)),
                ledger: ledger.iter().map(events::transaction).collect(),
                ..Default::default()
            })
        };
        let given = match why {
            Why::Stated => None,
            Why::Offered(_, theirs) => Some(Given { theirs, taken: taken(), is_offer: true }),
            Why::Released(_, theirs) => Some(Given { theirs, taken: taken(), is_offer: false }),
        };
        let mut accepted = Vec::new();
        for record in whole.accepted {
            // One of a kind that this version does not know can't be found here either.
            accepted.extend(read_accepted(record, &payment)?);
        }
        let adjustments = whole.adjustments.into_iter().map(read_adjustment).collect::<Result<_, _>>()?;
        let answers = whole.idempotency.into_iter().map(read_answer).collect::<Result<_, _>>()?;
        Ok(Read { payment, ledger, adjustments, answers, accepted, given })
    }
}

impl Read {
    fn is_as(&self, copies: &Copies) -> bool {
        let copy = copies.get(&self.payment.id);
        self.given.as_ref().is_some_and(|given| copy.is_some_and(|(_, hash)| *hash == given.taken))
    }

    /// A copy of the version before ought to have been what its owner gave up.
    fn mismatch(&self, before: &Copies, after: &Copies) -> Option<Mismatch> {
        let Given { theirs, is_offer, .. } = self.given.as_ref()?;
        let Payment { id: payment, version, .. } = self.payment;
        let mended = self.is_as(after);
        let differed = before.get(&payment).is_some_and(|(at, before)| at + 1 == version && before != theirs);
        (differed || !mended).then_some(Mismatch { payment, version, mended, is_offer: *is_offer })
    }
}

impl Replicate {
    /// Takes the wholes of payments, each of one record and in the order of their ids, with what changes of who may write them. The
    /// owner rows first, as everywhere. A payment that was called back is taken back, however its copy is: nobody else may write it.
    ///
    /// # Errors
    /// What the authority refuses; a record that can't be read; an offer whose payment can't be made the owner's here: that one keeps it.
    /// Nothing of any of them is to be committed then.
    pub(super) async fn take(
        &self,
        tx: &mut PgTransaction<'_>,
        records: Vec<Record>,
    ) -> Result<(), BoxError> {
        let mine = self.lock(tx, &records).await?;
        let read = records.into_iter().map(Record::read).collect::<Result<Vec<Read>, _>>()?;
        let mismatches = write(tx, &read).await?;
        let refused = mismatches.iter().any(|it| it.is_offer && !it.mended);
        // Of many, each is tried again by itself.
        if !refused || read.len() == 1 {
            for Mismatch { payment, version, mended, .. } in mismatches {
                self.metrics.mismatch();
                tracing::error!(%payment, version, mended, "the copy of a payment was not its owner's; the owner's was taken");
            }
        }
        if refused {
            return Err("the copy here can't be made the owner's".into());
        }
        if !mine.is_empty() {
            let keys: Vec<String> = mine.iter().map(PaymentId::to_string).collect();
            movable::gained(tx, &keys).await?;
            self.home.work.comes();
        }
        Ok(())
    }

    /// Asks for, or changes, who may write the payments, and returns those that are this home's from now on.
    async fn lock(&self, tx: &mut PgTransaction<'_>, records: &[Record]) -> Result<Vec<PaymentId>, BoxError> {
        let (mut stated, mut offered, mut released) = (Vec::new(), Vec::new(), Vec::new());
        for record in records {
            match record.why {
                Why::Stated => stated.push(record.payment),
                Why::Offered(epoch, _) => offered.push((record.payment, epoch)),
                Why::Released(epoch, _) => released.push((record.payment, epoch)),
            }
        }
        if !stated.is_empty() {
            self.refuse_own(tx, &stated).await?;
        }
        if !offered.is_empty() {
            self.births.offered(tx, &offered).await?;
        }
        if released.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.births.released(tx, &released).await?)
    }
}

/// Makes the copies here what the records say, and tells which were not, or are not.
async fn write(tx: &mut PgTransaction<'_>, read: &[Read]) -> Result<Vec<Mismatch>, BoxError> {
    let given = read.iter().filter(|read| read.given.is_some());
    let before = copies(tx, given.clone()).await?;
    let payments: Vec<&Payment> = read.iter().map(|read| &read.payment).collect();
    store::replace(tx, &payments).await?;
    // What has the owner's books has each of its lines.
    let unlike = read.iter().filter(|read| !read.is_as(&before));
    let booked: Vec<_> = unlike
        .clone()
        .flat_map(|read| read.ledger.iter().map(move |transaction| (&read.payment, transaction)))
        .collect();
    store::insert_transactions(tx, &booked).await?;
    let told = read.iter().flat_map(|read| read.adjustments.iter().map(move |it| (read.payment.id, it)));
    let told: Vec<_> = told.filter(|(_, adjustment)| adjustment.payment_intent.is_some()).collect();
    store::insert_adjustments(tx, &told).await?;
    let answers: Vec<_> =
        read.iter().flat_map(|read| read.answers.iter().map(move |kept| (&read.payment, kept))).collect();
    store::keep_answers(tx, &answers).await?;
    for accepted in read.iter().flat_map(|read| &read.accepted) {
        store::keep_accepted(tx, accepted).await?;
    }
    let mut after = copies(tx, unlike.filter(|read| read.given.is_some())).await?;
    for (payment, copy) in &before {
        after.entry(*payment).or_insert_with(|| copy.clone());
    }
    Ok(given.filter_map(|read| read.mismatch(&before, &after)).collect())
}

/// This home's copies of these payments; one without a row, or of which it can't be read, is missing.
async fn copies<'a>(
    tx: &mut PgTransaction<'_>,
    read: impl Iterator<Item = &'a Read>,
) -> Result<Copies, Error> {
    let ids: Vec<_> = read.map(|read| read.payment.id.uuid()).collect();
    if ids.is_empty() {
        return Ok(Copies::new());
    }
    let payments = store::load_all(tx, &ids).await?;
    let hashes = hashes(tx, &payments).await?;
    Ok(payments.iter().zip(hashes).map(|(payment, hash)| (payment.id, (payment.version, hash))).collect())
}
