//! One question, over HTTP, and what came back.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response, Url};
use tokio::time::timeout;

use super::wire::{self, LONGEST, Unreadable};
use crate::cause::root_cause;
use crate::directory::{Kind, Registration};

/// How long the rest of an answer is waited for whose status says all, so that its connection can be used again.
const REST: Duration = Duration::from_millis(50);

/// What it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// That it knows the key.
    Known(Registration),
    /// That it does not.
    Unknown,
    /// That it takes no such question, by this status: from us, perhaps.
    Refused(u16),
    /// Something that the contract has not.
    Malformed(String),
    /// That it is asked too much.
    TooMuch,
}

/// Why it said nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// There is nobody: no key can be the cause of that.
    Unreachable(String),
    /// Somebody was there and did not answer: the key may be the cause.
    Broken(String),
}

/// Asks. What was sent has no effect, so that it is sent again if a connection ends without a word: a server closes one that was idle just
/// as it is used again.
pub(super) async fn ask(client: &Client, url: &Url, kind: Kind, question: Vec<u8>) -> Result<Said, Silence> {
    let response = match send(client, url, question.clone()).await {
        Err(Silence::Broken(_)) => send(client, url, question).await?,
        sent => sent?,
    };
    match response.status().as_u16() {
        200 => Ok(match body(response).await? {
            Ok(body) => wire::read(kind, &body).map_or_else(|error| Said::Malformed(error.to_string()), Said::Known),
            Err(error) => Said::Malformed(error.to_string()),
        }),
        status @ 500.. => {
            rest(response).await;
            Err(Silence::Broken(format!("answered {status}")))
        }
        status => {
            rest(response).await;
            Ok(match status {
                404 | 410 => Said::Unknown,
                429 => Said::TooMuch,
                400..500 => Said::Refused(status),
                _ => Said::Malformed(format!("answered {status}")),
            })
        }
    }
}

async fn send(client: &Client, url: &Url, question: Vec<u8>) -> Result<Response, Silence> {
    let request = client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(question);
    request.send().await.map_err(|error| {
        let cause = root_cause(&error);
        if error.is_connect() { Silence::Unreachable(cause) } else { Silence::Broken(cause) }
    })
}

/// The body, if it is not too long; no more of it is read.
async fn body(mut response: Response) -> Result<Result<Vec<u8>, Unreadable>, Silence> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Silence::Broken(root_cause(&error)))? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST {
            return Ok(Err(Unreadable::TooLong));
        }
    }
    Ok(Ok(body))
}

async fn rest(response: Response) {
    drop(timeout(REST, body(response)).await); // whatever it is
}
