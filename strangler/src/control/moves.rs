//! Keys that move, on the wire.

use super::v1::{KeyEpoch, KeyOutcome, MoveReply, MoveRequest, Outcome};
use crate::{BoxError, Epoch, Reply};

pub(super) fn request(keys: &[(String, Epoch)]) -> MoveRequest {
    let key = |(key, epoch): &(String, Epoch)| KeyEpoch { key: key.clone(), epoch: epoch.get() };
    MoveRequest { keys: keys.iter().map(key).collect() }
}

pub(super) fn keys(request: MoveRequest) -> Vec<(String, Epoch)> {
    request.keys.into_iter().map(|key| (key.key, Epoch(key.epoch))).collect()
}

pub(super) fn reply(replies: Vec<(String, Reply)>) -> MoveReply {
    let outcome = |(key, reply)| {
        let (outcome, why) = match reply {
            Reply::Ready => (Outcome::Ready, String::new()),
            Reply::Granted => (Outcome::Granted, String::new()),
            Reply::Busy(why) => (Outcome::Busy, why),
            Reply::Released => (Outcome::Released, String::new()),
            Reply::NotYet => (Outcome::NotYet, String::new()),
            Reply::Stale => (Outcome::Stale, String::new()),
        };
        KeyOutcome { key, outcome: outcome.into(), why }
    };
    MoveReply { outcomes: replies.into_iter().map(outcome).collect() }
}

/// An outcome that this version does not know is an error: to take it for another could give a key two owners.
pub(super) fn replies(reply: MoveReply) -> Result<Vec<(String, Reply)>, BoxError> {
    let read = |outcome: KeyOutcome| -> Result<_, BoxError> {
        let reply = match Outcome::try_from(outcome.outcome) {
            Ok(Outcome::Ready) => Reply::Ready,
            Ok(Outcome::Granted) => Reply::Granted,
            Ok(Outcome::Busy) => Reply::Busy(outcome.why),
            Ok(Outcome::Released) => Reply::Released,
            Ok(Outcome::NotYet) => Reply::NotYet,
            Ok(Outcome::Stale) => Reply::Stale,
            Ok(Outcome::Unspecified) | Err(_) => {
                return Err(format!("key {} got the unknown outcome {}", outcome.key, outcome.outcome).into());
            }
        };
        Ok((outcome.key, reply))
    };
    reply.outcomes.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::{replies, reply};
    use crate::Reply;
    use crate::control::v1::{KeyOutcome, MoveReply};

    #[test]
    fn each_reply_is_read_as_it_was_written_and_an_unknown_one_is_an_error() {
        let all = [
            Reply::Ready,
            Reply::Granted,
            Reply::Busy("a transfer is under way".to_owned()),
            Reply::Released,
            Reply::NotYet,
            Reply::Stale,
        ];
        let all: Vec<(String, Reply)> = all.into_iter().map(|reply| ("k".to_owned(), reply)).collect();
        assert_eq!(replies(reply(all.clone())).unwrap(), all);
        for outcome in [0, 7] {
            let outcomes = vec![KeyOutcome { key: "k".to_owned(), outcome, why: String::new() }];
            assert!(replies(MoveReply { outcomes }).is_err());
        }
    }
}
