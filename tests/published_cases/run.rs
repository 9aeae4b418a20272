//! Runs a translated case against a connector, step by step, and says what differs.

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

/// Requests under way at once: more than any case names, fewer than the open files that a machine allows by default.
const AT_ONCE: usize = 100;

/// The first difference found; it names the case and the step, and shows no identity key.
pub(crate) async fn run(case: &Case, connector: &Connector) -> Result<(), String> {
    let (section, number) = case.number;
    check(case, connector).await.map_err(|difference| format!("{section}.{number} {}\n  {difference}", case.title))
}

async fn check(case: &Case, connector: &Connector) -> Result<(), String> {
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
            Pace::Sequential => one_after_another(connector, requests).await?,
            Pace::Concurrent => at_once(connector, requests).await?,
        };
        for (number, received) in (1..).zip(&answers) {
            self.answer.compare(received).map_err(|difference| format!("answer {number}: {difference}"))?;
        }
        self.answer.compare_times(&answers)?;
        Ok(answers)
    }

    /// Twice the burst at once: the burst must pass, and of the rest no more than the limit has let in meanwhile.
    async fn exceed_limit(&self, limit: RateLimit, beyond: &Answer, to: &Connector) -> Result<Vec<Received>, String> {
        let burst = usize::try_from(limit.burst).map_err(|error| error.to_string())?;
        let begun = Instant::now();
        let answers = at_once(to, iter::repeat_n(self.request.clone(), 2 * burst)).await?;
        let meanwhile = (begun.elapsed() * limit.requests_per_second).as_secs() + 1;
        let mut passed = 0;
        for received in &answers {
            if received.status == beyond.status {
                beyond.compare(received)?;
            } else {
                self.answer.compare(received)?;
                passed += 1;
            }
        }
        if passed < limit.burst || u64::from(passed) > u64::from(limit.burst) + meanwhile || passed == 2 * limit.burst {
            let all = answers.len();
            return Err(format!("{passed} of {all} requests passed: burst {burst}, and meanwhile {meanwhile} at most"));
        }
        Ok(answers)
    }
}

/// The same request as a scan of its own: its ids counted on.
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

async fn one_after_another(
    connector: &Connector,
    requests: impl Iterator<Item = Value>,
) -> Result<Vec<Received>, String> {
    let mut answers = Vec::new();
    for request in requests {
        answers.push(connector.post(&request).await?);
    }
    Ok(answers)
}

async fn at_once(connector: &Connector, requests: impl Iterator<Item = Value>) -> Result<Vec<Received>, String> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut under_way = JoinSet::new();
    for request in requests {
        let (connector, places) = (connector.clone(), Arc::clone(&places));
        under_way.spawn(async move {
            let _place = places.acquire().await.map_err(|error| error.to_string())?;
            connector.post(&request).await
        });
    }
    under_way.join_all().await.into_iter().collect()
}
