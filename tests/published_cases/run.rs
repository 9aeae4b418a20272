//! Runs a translated case against a connector and reports the first difference.

use std::iter;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::answer::{Answer, Received};
use crate::case::{Case, Event, Pace, RateLimit, RequestStep, Step};
use crate::connector::Connector;

/// The maximum number of simultaneous requests: more than any case sends, and fewer than the usual limit of open files.
const MAX_CONCURRENT: usize = 100;

/// Returns the first difference. It names the case and the step, and shows no identity key.
pub(crate) async fn run(case: &Case, connector: &Connector) -> Result<(), String> {
    let (section, number) = case.number;
    find_difference(case, connector)
        .await
        .map_err(|difference| format!("{section}.{number} {}\n  {difference}", case.title))
}

async fn find_difference(case: &Case, connector: &Connector) -> Result<(), String> {
    let mut answers: Vec<Received> = Vec::new();
    for (number, step) in (1..).zip(&case.steps) {
        let in_step = |difference| format!("step {number}: {difference}");
        match step {
            Step::Request(step) => answers.extend(step.run(connector).await.map_err(in_step)?),
            Step::Scan(step) => step.run(connector).await.map_err(in_step)?,
        }
    }
    if case.identical_answers && !answers.windows(2).all(|pair| matches!(pair, [a, b] if a.body == b.body)) {
        let bodies: Vec<_> = answers.iter().map(|answer| String::from_utf8_lossy(&answer.body)).collect();
        return Err(format!("not the same bytes:\n  {}", bodies.join("\n  ")));
    }
    if let Some(expected) = &case.sessions {
        let opened = connector.count_sessions(&expected.auth_event_id).await?;
        if opened != expected.opened {
            return Err(format!("the event has {opened} sessions, expected {}", expected.opened));
        }
    }
    Ok(())
}

impl RequestStep {
    async fn run(&self, connector: &Connector) -> Result<Vec<Received>, String> {
        if let Some(beyond) = &self.answer_beyond_limit {
            let limit = connector.rate_limit.ok_or("the connector's rate limit is not known")?;
            return self.exceed_limit(limit, beyond, connector).await;
        }
        let requests = (0..self.repeat.times).map(|index| match self.repeat.event {
            Event::Same => self.request.clone(),
            Event::New => numbered(&self.request, index),
        });
        let answers = match self.repeat.pace {
            Pace::Sequential => send_in_sequence(connector, requests).await?,
            Pace::Concurrent => send_concurrently(connector, requests).await?,
        };
        for (number, received) in (1..).zip(&answers) {
            self.answer.compare(received).map_err(|difference| format!("answer {number}: {difference}"))?;
        }
        self.answer.compare_times(&answers)?;
        Ok(answers)
    }

    /// Sends twice the burst at the same time. The burst must pass, and of the rest at most the number that the limit
    /// refills during the test.
    async fn exceed_limit(&self, limit: RateLimit, beyond: &Answer, to: &Connector) -> Result<Vec<Received>, String> {
        let burst = usize::try_from(limit.burst).map_err(|error| error.to_string())?;
        let begun = Instant::now();
        let answers = send_concurrently(to, iter::repeat_n(self.request.clone(), 2 * burst)).await?;
        let refilled = (begun.elapsed() * limit.requests_per_second).as_secs() + 1;
        let mut passed = 0;
        for received in &answers {
            if received.status == beyond.status {
                beyond.compare(received)?;
            } else {
                self.answer.compare(received)?;
                passed += 1;
            }
        }
        if passed < limit.burst || u64::from(passed) > u64::from(limit.burst) + refilled || passed == 2 * limit.burst {
            let all = answers.len();
            return Err(format!(
                "{passed} of {all} requests passed: burst {burst}, and at most {refilled} refilled during the test"
            ));
        }
        Ok(answers)
    }
}

/// The request as a separate scan: its ids are incremented by `index`.
fn numbered(request: &Value, index: usize) -> Value {
    let mut request = request.clone();
    for pointer in ["/requestId", "/authEvent/id"] {
        if let Some(Value::String(id)) = request.pointer_mut(pointer)
            && let (Ok(first), Ok(index)) = (id.parse::<Uuid>(), u128::try_from(index))
        {
            *id = Uuid::from_u128(first.as_u128().wrapping_add(index)).to_string();
        }
    }
    request
}

async fn send_in_sequence(
    connector: &Connector,
    requests: impl Iterator<Item = Value>,
) -> Result<Vec<Received>, String> {
    let mut answers = Vec::new();
    for request in requests {
        answers.push(connector.post(&request).await?);
    }
    Ok(answers)
}

async fn send_concurrently(
    connector: &Connector,
    requests: impl Iterator<Item = Value>,
) -> Result<Vec<Received>, String> {
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut running = JoinSet::new();
    for request in requests {
        let (connector, permits) = (connector.clone(), Arc::clone(&permits));
        running.spawn(async move {
            let _permit = permits.acquire().await.map_err(|error| error.to_string())?;
            connector.post(&request).await
        });
    }
    running.join_all().await.into_iter().collect()
}
