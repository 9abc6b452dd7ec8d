//! The list's side: page by page, each line placed against the books of its payment. No more than one page of lines, and the
//! books of their payments, are in memory.

use std::collections::HashMap;
use std::ops::Range;

use proto::PaymentId;
use time::{Duration, OffsetDateTime};

use super::place::{Verdict, place};
use super::{Books, Found, Run, ending, explain, found};
use crate::provider::{Failure, LineKind, SettlementLine, SettlementPage};
use crate::{Error, Payment, store};

/// How far clocks may differ, and how long a booking may take.
const SLACK: Duration = Duration::minutes(5);
/// Open differences from before the window that one run looks after, drawn by lot when there are more.
const OLD_MAX: i64 = 100;
/// How often a page is asked for until the run ends.
const PAGE_TRIES_MAX: u32 = 3;
/// The pause in between, when the provider does not say one.
const PAGE_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// The times whose lines are read: the window, and around open differences from before it.
pub(super) async fn ranges(run: &Run<'_>) -> Result<Vec<Range<OffsetDateTime>>, Error> {
    let old = store::open_before(&run.home.pool, run.start, OLD_MAX).await?;
    Ok(merged(run.start - SLACK..run.now + SLACK, &old))
}

/// The window, and what of the times around `old` (in order) lies before it; no time twice. Newest first.
fn merged(window: Range<OffsetDateTime>, old: &[OffsetDateTime]) -> Vec<Range<OffsetDateTime>> {
    let mut ranges: Vec<Range<OffsetDateTime>> = Vec::new();
    for at in old {
        let around = *at - SLACK..(*at + SLACK).min(window.start);
        match ranges.last_mut() {
            Some(last) if around.start <= last.end => last.end = around.end,
            _ => ranges.push(around),
        }
    }
    ranges.push(window);
    ranges.retain(|range| range.start < range.end);
    ranges.reverse();
    ranges
}

impl Run<'_> {
    /// Reads and places all lines of a time. False when there is no list for this home.
    pub(super) async fn lines(&mut self, within: Range<OffsetDateTime>) -> Result<bool, Error> {
        let mut after = None;
        loop {
            let Some(page) = self.page(&within, after.as_deref()).await? else { return Ok(false) };
            let SettlementPage { lines, unread, next } = page;
            self.lines += i64::try_from(lines.len() + unread.len()).unwrap_or_default();
            self.place(&lines).await?;
            for line in &unread {
                // Each home that has the list tells it: nobody can say whose it is, and from the seal on only the target is left.
                self.open(&Found::unread(line)).await?;
            }
            match next {
                None => return Ok(true),
                // A list that does not move on would be read for ever.
                next if next == after => {
                    return Err(Error::Unavailable("the provider's list turns in a circle".to_owned()));
                }
                next => after = next,
            }
        }
    }

    /// One page. Behind it there may be a thousand others, so it is asked for more than once.
    async fn page(
        &self,
        within: &Range<OffsetDateTime>,
        after: Option<&str>,
    ) -> Result<Option<SettlementPage>, Error> {
        let asked = async {
            let mut tries = 1;
            loop {
                let pause = match self.home.provider.settlements(within.clone(), after).await {
                    Err(failure) if tries >= PAGE_TRIES_MAX => return Err(failure),
                    Err(Failure::NotNow { after, .. }) => after.max(PAGE_PAUSE),
                    Err(_) => PAGE_PAUSE,
                    Ok(page) => return Ok(page),
                };
                tries += 1;
                tokio::time::sleep(pause).await;
            }
        };
        let page = tokio::select! {
            () = self.shutdown.cancelled() => return Err(ending()),
            page = asked => page,
        };
        page.map_err(|failure| {
            Error::Unavailable(format!("the provider's settlement list can't be read: {failure}"))
        })
    }

    /// Places a page: claims what answers for its lines, closes what agrees, opens and explains what differs.
    async fn place(&self, lines: &[SettlementLine]) -> Result<(), Error> {
        let mut known = Known::load(self, lines).await?;
        let (mut settled, mut agreeing, mut differing) = (Vec::new(), Vec::new(), Vec::new());
        for line in lines {
            let placed = place(line, known.of(line));
            if let Some(entry) = placed.entry
                && known.answered(line, entry)
            {
                settled.push((entry, line.id.clone()));
                agreeing.push((found::entry_subject(entry), format!("its line came: {}", line.id)));
            }
            match placed.verdict {
                Verdict::Agrees { adjusted } => {
                    let reason =
                        if adjusted { explain::reason(line) } else { "the books have it now".to_owned() };
                    agreeing.push((found::line_subject(&line.id), reason));
                }
                Verdict::Differs(found) => differing.push((line, *found)),
                // Before the list is not read so far back any more.
                Verdict::Waits(found) if self.now - line.created >= self.config.window / 2 => {
                    self.open(&found).await?;
                }
                Verdict::Waits(_) | Verdict::NotOurs => {}
            }
        }
        // What is settled is not closed again, so it is closed before.
        self.close(&agreeing).await?;
        if !settled.is_empty() {
            store::settle_entries(&self.home.pool, &settled).await?;
        }
        for (line, found) in differing {
            let adjusted = self.differs(line, &found, known.of(line)).await?;
            known.adjusted(line, adjusted);
        }
        Ok(())
    }

    /// Returns the payment when its books were adjusted.
    async fn differs(
        &self,
        line: &SettlementLine,
        found: &Found,
        books: Option<&Books>,
    ) -> Result<Option<Payment>, Error> {
        let Some(books) = books else {
            // Its payment's first event may still be on its way. Told by each home that has the list: one alone may have been retired.
            if self.now - line.created >= self.config.late_after {
                self.open(found).await?;
            }
            return Ok(None);
        };
        if self.open(found).await? {
            return explain::explain(self.home, line, found, books).await;
        }
        Ok(None)
    }
}

/// The books of a page's payments.
struct Known {
    books: HashMap<PaymentId, Books>,
    by_intent: HashMap<String, PaymentId>,
}

impl Known {
    async fn load(run: &Run<'_>, lines: &[SettlementLine]) -> Result<Self, Error> {
        let ours = || lines.iter().filter(|line| line.kind != LineKind::Other);
        let ids: Vec<_> = ours().filter_map(|line| Some(line.payment?.uuid())).collect();
        let intents: Vec<_> = ours().filter_map(|line| line.payment_intent.clone()).collect();
        let books = store::books(&run.home.pool, &ids, &intents).await?;
        let by_intent =
            books.iter().filter_map(|books| Some((books.intent.clone()?, books.payment))).collect();
        let books = books.into_iter().map(|books| (books.payment, books)).collect();
        Ok(Self { books, by_intent })
    }

    /// The payment that the line's tag names; else the one that its payment intent belongs to.
    fn payment(&self, line: &SettlementLine) -> Option<PaymentId> {
        let tagged = line.payment.filter(|payment| self.books.contains_key(payment));
        tagged.or_else(|| self.by_intent.get(line.payment_intent.as_ref()?).copied())
    }

    fn of(&self, line: &SettlementLine) -> Option<&Books> {
        self.books.get(&self.payment(line)?)
    }

    /// A page's next line of the same payment is compared with what its books are now.
    fn adjusted(&mut self, line: &SettlementLine, after: Option<Payment>) {
        let books = self.payment(line).and_then(|payment| self.books.get_mut(&payment));
        if let (Some(books), Some(after)) = (books, after)
            && after.version == books.version + 1
        {
            books.version = after.version;
        }
    }

    /// From now on a transaction answers for a line. False when it does already.
    fn answered(&mut self, line: &SettlementLine, entry: uuid::Uuid) -> bool {
        let books = self.payment(line).and_then(|payment| self.books.get_mut(&payment));
        books.is_some_and(|books| books.answered(entry, &line.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn no_time_is_read_twice() {
        let slack = SLACK.whole_seconds();
        let window = at(10_000)..at(20_000);
        assert_eq!(merged(window.clone(), &[]), std::slice::from_ref(&window));
        let ranges = merged(window.clone(), &[at(1_000), at(1_100), at(5_000), at(9_900)]);
        let expected = [
            window.clone(),
            at(9_900 - slack)..at(10_000),
            at(5_000 - slack)..at(5_000 + slack),
            at(1_000 - slack)..at(1_100 + slack),
        ];
        assert_eq!(ranges, expected);
    }
}
