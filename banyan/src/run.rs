//! One command: ask, then print.

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use crate::answers::{Approved, Back, Backfill, Held, Parity, Pinned, Plan, Repaired, Status, Step, Why};
use crate::api::{Answer, Api};
use crate::cli::{Cli, Command, Stage};
use crate::print::{self, Print};
use crate::{code, plan};

/// What a command leaves.
pub(crate) struct Outcome {
    /// For stdout.
    pub(crate) text: String,
    /// Whether the rules or a gate said no.
    pub(crate) refused: bool,
}

const UNREADABLE: &str = "this version of banyan can't read the answer: use the one of the monolith";

#[derive(Serialize)]
struct Hold {
    reason: String,
}

#[derive(Serialize)]
struct Approve {
    stage: Stage,
    reason: String,
}

#[derive(Serialize)]
struct Fill {
    again: bool,
}

#[derive(Serialize)]
struct Mend {
    keys: Vec<String>,
}

#[derive(Serialize)]
struct Rollback {
    revision: i64,
}

pub(crate) async fn run(cli: Cli) -> anyhow::Result<Outcome> {
    if let Command::Plan { file: Some(file), check: true } = &cli.command {
        return plan::check(file, &cli.migration, OffsetDateTime::now_utc());
    }
    // As for a plan's file: what asks no server needs no address.
    if let Command::Verify { code, schema, except } = &cli.command {
        return code::verify(code, except, schema);
    }
    let url = cli.url.context("no address: give --url or set BANYAN_URL")?;
    let token = cli.token.context("no token: give --token or set BANYAN_TOKEN")?;
    let api = Api::new(&url, token, &cli.migration)?;
    let json = cli.json;
    match cli.command {
        Command::Status => show::<Status>(api.get(&[]).await?, json),
        Command::Plan { .. } => show::<Plan>(api.get(&["plan"]).await?, json),
        Command::Verify { code, schema, except } => code::verify(&code, &except, &schema),
        Command::Why { key } => show::<Why>(api.get(&["keys", &key]).await?, json),
        Command::Pinned { limit } => show::<Pinned>(api.pinned(limit).await?, json),
        Command::Advance(step) => show::<Step>(api.post(&["advance"], Some(&step.wire())).await?, json),
        Command::Hold { reason } => show::<Held>(api.post(&["hold"], Some(&Hold { reason })).await?, json),
        Command::Approve { stage, reason } => {
            show::<Approved>(api.post(&["approve"], Some(&Approve { stage, reason })).await?, json)
        }
        Command::Backfill { again } => {
            show::<Backfill>(api.post(&["backfill"], Some(&Fill { again })).await?, json)
        }
        Command::Parity => show::<Parity>(api.post(&["parity"], None::<&()>).await?, json),
        Command::Repair { keys } => {
            show::<Repaired>(api.post(&["repair"], Some(&Mend { keys })).await?, json)
        }
        Command::Rollback { revision } => rollback(&api, revision, json).await,
    }
}

/// Goes back from one revision only, by default the one in force: sent twice, by whatever lies between, it is done once.
async fn rollback(api: &Api, revision: Option<i64>, json: bool) -> anyhow::Result<Outcome> {
    let revision = match revision {
        Some(revision) => revision,
        None => match api.get(&[]).await? {
            Answer::Done(body) => serde_json::from_str::<Status>(&body).context(UNREADABLE)?.revision,
            refused @ Answer::Refused(..) => return show::<Back>(refused, json),
        },
    };
    let answer = api.post(&["rollback"], Some(&Rollback { revision })).await.with_context(|| {
        format!("it may have been done: `banyan rollback --revision {revision}` never does it twice")
    })?;
    show::<Back>(answer, json)
}

fn show<T: DeserializeOwned + Print>(answer: Answer, json: bool) -> anyhow::Result<Outcome> {
    let (body, text, refused) = match answer {
        Answer::Refused(body, problem) => (body, print::problem(&problem), true),
        Answer::Done(body) => {
            let answer: T = serde_json::from_str(&body).context(UNREADABLE)?;
            let (text, refused) = (answer.print(), answer.refused());
            (body, text, refused)
        }
    };
    Ok(Outcome { text: if json { body + "\n" } else { text }, refused })
}
