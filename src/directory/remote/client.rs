//! Sends one look-up request to the identity backend and reads its answer.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response, Url};
use tokio::time::timeout;

use super::wire::{self, InvalidAnswer, MAX_ANSWER_BYTES};
use crate::cause::root_cause;
use crate::directory::{Kind, Registration};

/// How long the client reads the body of an answer that it does not need, so that the connection can be used again.
const DRAIN_FOR: Duration = Duration::from_millis(50);

/// An answer of the identity backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The key is known.
    Known(Registration),
    /// The key is not known: 404 or 410.
    Unknown,
    /// The request was refused with this 4xx status, perhaps because of the connector's credentials.
    Refused(u16),
    /// The answer does not conform to the contract.
    Malformed(String),
    /// The backend has too many requests: 429.
    TooManyRequests,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The connection failed. No key can cause this.
    Unreachable(String),
    /// The backend is reachable, but did not answer or answered 5xx. The key may be the cause.
    Failed(String),
}

/// Sends the request and reads the answer. A look-up has no effect, so the request is sent a second time if the
/// connection ends without an answer: a server may close an idle connection just when it is used again.
pub(super) async fn ask(client: &Client, url: &Url, kind: Kind, body: Vec<u8>) -> Result<Answer, NoAnswer> {
    let response = match send(client, url, body.clone()).await {
        Err(NoAnswer::Failed(_)) => send(client, url, body).await?,
        sent => sent?,
    };
    match response.status().as_u16() {
        200 => Ok(match read_body(response).await? {
            Ok(body) => {
                wire::read(kind, &body).map_or_else(|error| Answer::Malformed(error.to_string()), Answer::Known)
            }
            Err(error) => Answer::Malformed(error.to_string()),
        }),
        status @ 500.. => {
            drain(response).await;
            Err(NoAnswer::Failed(format!("answered {status}")))
        }
        status => {
            drain(response).await;
            Ok(match status {
                404 | 410 => Answer::Unknown,
                429 => Answer::TooManyRequests,
                400..500 => Answer::Refused(status),
                _ => Answer::Malformed(format!("answered {status}")),
            })
        }
    }
}

async fn send(client: &Client, url: &Url, body: Vec<u8>) -> Result<Response, NoAnswer> {
    let request = client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(body);
    request.send().await.map_err(|error| {
        let cause = root_cause(&error);
        if error.is_connect() { NoAnswer::Unreachable(cause) } else { NoAnswer::Failed(cause) }
    })
}

/// The body, unless it is longer than [`MAX_ANSWER_BYTES`].
async fn read_body(mut response: Response) -> Result<Result<Vec<u8>, InvalidAnswer>, NoAnswer> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| NoAnswer::Failed(root_cause(&error)))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            return Ok(Err(InvalidAnswer::TooLong));
        }
    }
    Ok(Ok(body))
}

async fn drain(response: Response) {
    drop(timeout(DRAIN_FOR, read_body(response)).await); // an error here does not matter
}
