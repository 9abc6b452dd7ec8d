//! The words of the pages: what each part shows and how it was measured.

use crate::report::Bench;

/// The row of the figures in it, its title, its words.
pub(super) type Part = (&'static str, &'static str, &'static str);

/// The parts of a page, in their order.
pub(super) fn of(bench: Bench) -> &'static [Part] {
    match bench {
        Bench::Outbox => &OUTBOX,
        Bench::Payments => &PAYMENTS,
        Bench::Migration => &MIGRATION,
    }
}

/// How a page ends.
pub(super) fn end(bench: Bench) -> &'static str {
    match bench {
        Bench::Outbox => OUTBOX_END,
        Bench::Payments => PAYMENTS_END,
        Bench::Migration => MIGRATION_END,
    }
}

/// The outbox's.
const OUTBOX: [Part; 11] = [
    (
        "publish",
        "Publish",
        "One business update and one event in a transaction, 8 clients, 256 bytes of payload. The limits do the same with the \
         three statements of `outbox.publish` sent one by one, each prepared, and with one bare insert of the payload.",
    ),
    (
        "drain",
        "Drain",
        "A backlog that is there when the relay's process starts; events a second between the first and the last append at \
         the broker. The limits: one connection that reads the queue with its events in pages of 1,000 and deletes each page; \
         a producer with the relay's settings fed as fast as it takes records; and both, one after the other. With 8 hot keys \
         there is no target: one record of a key is in flight at a time.",
    ),
    (
        "relay",
        "Memory and processor",
        "Of a process that is a relay and nothing else, draining the backlogs above.",
    ),
    (
        "latency",
        "Latency",
        "Bookings at an even rate, however long one takes. From the commit's acknowledgement until a consumer has the record, \
         which is no less than until the broker has it. The relay is a process of its own, so nobody wakes it. The limits: one \
         record at a time from a producer to a consumer, alone; and while the same bookings go on without a relay.",
    ),
    (
        "inbox",
        "Inbox",
        "One handler that counts events by key in a table, on up to 8 connections. The limit does the same upserts on one \
         connection, 500 a transaction, without Kafka and without cursors.",
    ),
    (
        "peer drain",
        "Beside the peers: drain",
        "The same backlog for each contender, written one event a transaction. Each relay first delivers a fifth as many \
         events, so that it is warm (a JVM has compiled what matters), and is held (SIGSTOP) while the backlog is written.",
    ),
    ("peer latency", "Beside the peers: latency", "As above, at one rate for all."),
    (
        "peer writers",
        "Beside the peers: writers",
        "8 clients as fast as they can, alone and with the relay running beside them; records are counted with their repeats.",
    ),
    (
        "peer kills",
        "Beside the peers: kills",
        "Seconds until the last record, with `kill -9` four times, each after another fifth of the backlog's records. No round \
         warms up.",
    ),
    ("peer cpu", "Beside the peers: processor", "CPU of the relay's process."),
    ("peer memory", "Beside the peers: memory", "VmHWM of the relay's process."),
];

const OUTBOX_END: &str = "
Kafka writes its log without waiting for the disk, as it does by default; PostgreSQL waits for it at each commit of a writer. \
All processes share the machine: servers, clients and relay.

## How to repeat
```
cargo xtask bench outbox --json FILE --peers     # an idle machine, for hours
cargo xtask bench report FILE                    # writes this page
cargo xtask bench outbox --short                 # a try of every row within minutes
cargo xtask bench outbox --only drain --profile  # where the time of a drain goes
```
";

/// Of a paid order: the same parts for both ways.
const PAYMENTS: [Part; 10] = [
    (
        "in process",
        "In process",
        "All payments are owned by the monolith, before the migration begins; no service runs. Customers keep a number of \
         orders under way (the best of those tried) and place the next one when the database says that one is paid. Each \
         order has one line and a card that is charged at once. The provider takes as long as the options say for each \
         request, and a paid order makes two, one after the other. The limit: connections that each insert one row a \
         transaction as fast as they can, with nothing else running; as many as orders were under way, since each order has \
         one writer at a time, but no more than the shop held.",
    ),
    ("in process: database", "In process: the database", DATABASE),
    ("in process: processor", "In process: the processor", PROCESSOR),
    ("in process: latency", "In process: latency", LATENCY),
    ("in process: stages", "In process: where an order's time goes", STAGES),
    (
        "through the service",
        "Through the service",
        "The same with the migration ramping at 100 %: all payments are born at the payments service, which has a database \
         of its own on the same server, and the monolith follows.",
    ),
    ("through the service: database", "Through the service: the databases", DATABASE),
    ("through the service: processor", "Through the service: the processor", PROCESSOR),
    ("through the service: latency", "Through the service: latency", LATENCY),
    ("through the service: stages", "Through the service: where an order's time goes", STAGES),
];

const DATABASE: &str = "In the closed loop. Statements are those that the shop's processes send, counted by \
    `pg_stat_statements`; polls are among them. A writing commit is a commit record in the write-ahead log, of whichever \
    database; those of the relays, which don't wait for the disk, are taken off: at most as many as the relays' roles had \
    calls that wrote.";

const PROCESSOR: &str = "In the closed loop, from `/proc`.";

const LATENCY: &str = "Orders at an even rate, half of what the first closed loop reached, with all that ran before still \
    warm. Acceptance is heard by the customer, on the customer's clock, counted from when the order was due. Accepted -> paid \
    is on the clock of the monolith's database: from when the order's row was written (`orders.placed_at`, before its commit) \
    until the row was marked paid (`orders.changed_at`, before that commit).";

const STAGES: &str = "Of the orders above, each by its own times, so medians need not add up. All clocks are this \
    machine's: the databases' (`clock_timestamp()` inside each transaction) and the provider's journal.";

const PAYMENTS_END: &str = "
The machine is shared by all: servers, shop, provider and customers. PostgreSQL waits for the disk at each commit but the \
relays'; Kafka does not, as by default. At the end the checker compared orders, payments, ledger, topics and the provider's \
journal of all rounds, and found nothing lost, doubled or unbalanced.

## How to repeat
```
cargo xtask bench payments --json FILE   # an idle machine
cargo xtask bench report FILE            # writes this page
cargo xtask bench payments --short       # a try within minutes
cargo xtask bench payments --debug-build # the same on a build for debugging, which is never published
```
";

/// Of a migration.
const MIGRATION: [Part; 5] = [
    (
        "to the service",
        "To the service",
        "All payments, each of them ordered and paid before, are handed over in stage `primary`. Twice a round: once with nothing \
         else going on, which is the rate; once with callers, which is the pause. The rate counts from the start of the first \
         fencing transaction until 99 % of the payments are the service's: one that was busy is looked at again a second or \
         more later. The limit: the four statements that swap the owners' rows, alone, on a copy of the table, on one \
         connection. A trigger in both databases notes when each step's transaction began and when the step was taken, \
         by the databases' clocks; its cost is part of what is measured.",
    ),
    (
        "back to the monolith",
        "Back to the monolith",
        "The same after a rollback. The fence is the service's: until then it may write. *The owner's row on its way* is when the \
         monolith began to call the payment back.",
    ),
    (
        "filling",
        "Filling the service",
        "The service's copies are deleted while it is stopped; a backfill publishes all of them again. Payments a second, from \
         the first to the last that the service applied, by its database's clock; the controller itself publishes no more \
         than some 2,000 a second. Meanwhile others order at an even rate: from \
         when an order was due until its acceptance was heard, by the customers' clock. The same with orders alone before and \
         afterwards; what these two differ by is the spread of the run against itself.",
    ),
    (
        "feeds",
        "Lag of the feeds",
        "Of each event: from when it was written at one home (`outbox.event.created_at`, before its commit) until it was applied at \
         the other (`outbox.applied_id.applied_at`, before that commit), while orders come at an even rate. Both databases are on \
         one server, so it is one clock.",
    ),
    (
        "seam and lock",
        "The seam on a read, the owner's lock on a write",
        "Pairs of the same call with it and without, in turn, in the benchmark's process, on the shop's own tables, under the role of \
         its payments module and with nothing else going on: a read of one payment; a transaction that takes a write's first \
         locks. Then both routes through the shop's HTTP, which pay for it already. Allowed are 100 microseconds, or 5 % of the \
         route without it if that is more; a figure over what is allowed is 1 at the bound.",
    ),
];

const MIGRATION_END: &str = "
The machine is shared by all: servers, shop, provider, customers and callers. PostgreSQL waits for the disk at each commit but the \
relays'; Kafka does not, as by default. *The pause*: a caller sends a refund as soon as it sees in the owner's row, looked at each \
5 ms, that its payment is on its way, and sends it again when it is told to. It counts from the start of the transaction that \
fences the payment, which is before its first row lock, until the refund's command is written at the new home. At the end the \
checker compared orders, payments, ledger, topics and the provider's journal, and found nothing lost, doubled or unbalanced.

## How to repeat
```
cargo xtask bench migration --json FILE   # an idle machine
cargo xtask bench report FILE             # writes this page
cargo xtask bench migration --short       # a try within minutes
cargo xtask bench migration --debug-build # the same on a build for debugging, which is never published
```
";
