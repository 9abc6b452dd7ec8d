-- What is `unplaced` is asked again once an hour, as a `surprise` is: its payment may come after all. What was given up before
-- is due at once.
drop index webhooks.notice_due;
create index notice_due on webhooks.notice (next_at) where state in ('waiting', 'early', 'surprise', 'unplaced');
