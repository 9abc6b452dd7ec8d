-- What a person accepted of a payment travels with it: found at the next snapshot, offer or release without reading all history.
create index difference_accepted on payments.difference (payment_id, id) where accepted;
