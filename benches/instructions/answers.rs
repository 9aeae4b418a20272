//! Requests to the gate's API as in production, but without a network and a database.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode};
use identity_connector::clock::Clock;
use identity_connector::config::{Log, LogFormat};
use identity_connector::testing::callers::{Caller, Callers, KeyDigest, Stores};
use identity_connector::testing::gate_api::{self, Admission, Api, IDENTITY_KEYS, InFlight};
use identity_connector::testing::http::Readiness;
use identity_connector::testing::observe::logs;
use identity_connector::testing::observe::metrics::Metrics;
use identity_connector::testing::rate_limit::{Allowance, RateLimits};
use identity_connector::testing::verify::Connector;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::LevelFilter;

use crate::TIMES;
use crate::fixture::{CODE, body, connector, directory};

const API_KEY: &str = "an API key as openssl rand makes them: 0123456789abcdef";
/// A Scan Key Code in the fixture's format with an unknown token.
const UNKNOWN: &str = "JWOACMEffffffffffffffffffffffffffffffff1795867200";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    /// A new event that is accepted.
    NewEvent,
    /// An accepted event that is already recorded.
    Replay,
    /// A body that breaks the last validation rule.
    RefusedBody,
    /// A new event with an unknown key.
    DeniedKey,
}

impl Case {
    fn body(self, event: u64) -> String {
        match self {
            Self::NewEvent => body(event, CODE, "OPTICAL"),
            Self::Replay => body(0, CODE, "OPTICAL"),
            Self::RefusedBody => body(event, CODE, "optical"),
            Self::DeniedKey => body(event, UNKNOWN, "OPTICAL"),
        }
    }

    fn request(self, event: u64) -> Request<Body> {
        let request =
            Request::post(IDENTITY_KEYS).header("host", "connector").header("content-type", "application/json");
        request.header("x-api-key", API_KEY).body(self.body(event).into()).unwrap()
    }

    /// The expected answer to each request, and the number of records at the end.
    fn expected(self) -> (StatusCode, &'static str, u64) {
        const ACCEPTED: &str = r#"{"visitorDetails":{"id":"shopper-uuid-001","type":"SHOPPER"}}"#;
        match self {
            Self::NewEvent => (StatusCode::OK, ACCEPTED, TIMES + 1),
            Self::Replay => (StatusCode::OK, ACCEPTED, 1),
            Self::RefusedBody => (StatusCode::BAD_REQUEST, r#"{"message":"Invalid keyChannel value"}"#, 0),
            Self::DeniedKey => (StatusCode::UNAUTHORIZED, r#"{"message":"Identity key not found"}"#, TIMES + 1),
        }
    }
}

/// The state that is set up before counting starts, and the answers.
pub(crate) struct Answers {
    case: Case,
    runtime: Runtime,
    router: Router,
    connector: Arc<Connector>,
    requests: Vec<Request<Body>>,
    answers: Vec<(StatusCode, Bytes)>,
    _log: WorkerGuard,
}

impl Answers {
    /// Sets up everything and sends one request, so that one-time work is not counted.
    pub(crate) fn prepare(case: Case) -> Self {
        // The log goes to standard error, as in production.
        let log = logs::init(&Log { format: LogFormat::Json, level: LevelFilter::INFO }).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let metrics = Metrics::new();
        let connector = Arc::new(connector(&runtime.block_on(directory()), metrics.clone()));
        let router = router(&connector, metrics);
        let mut prepared = Self {
            case,
            runtime,
            router,
            connector,
            requests: vec![case.request(0)],
            answers: Vec::with_capacity(usize::try_from(TIMES).unwrap() + 1),
            _log: log,
        };
        prepared.ask();
        prepared.requests = (1..=TIMES).map(|event| case.request(event)).collect();
        prepared
    }

    /// Sends the prepared requests. Only these are counted.
    pub(crate) fn ask(&mut self) {
        let Self { runtime, router, requests, answers, .. } = self;
        runtime.block_on(async {
            for request in requests.drain(..) {
                let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
                answers.push((head.status, to_bytes(body, usize::MAX).await.unwrap()));
            }
        });
    }

    pub(crate) fn check(self) {
        let (status, body, records) = self.case.expected();
        assert_eq!(self.answers.len() as u64, TIMES + 1);
        for answer in &self.answers {
            assert_eq!(*answer, (status, Bytes::from_static(body.as_bytes())));
        }
        assert_eq!(self.connector.ledger.records() as u64, records);
        assert_eq!(logs::dropped_lines(), 0);
    }
}

/// The router with the default settings, and one caller with an API key.
fn router(connector: &Arc<Connector>, metrics: Metrics) -> Router {
    let caller = Caller {
        name: "gates".into(),
        keys: vec![KeyDigest::from_key(API_KEY.as_bytes())],
        certificate_subject: None,
        stores: Stores::All,
    };
    let number = |number| NonZeroU32::new(number).unwrap();
    let allowance = Allowance { per_second: number(1000), burst: number(2000), max_callers: 100_000 };
    let admission = Admission {
        callers: Callers::new(vec![caller]),
        limits: RateLimits::new(allowance, None),
        failures: RateLimits::new(allowance, None),
        trusted_proxies: [].into(),
        metrics: metrics.clone(),
    };
    let state = Api {
        connector: Arc::clone(connector),
        clock: Clock::System,
        admission,
        in_flight: InFlight::new(256, metrics.clone()),
    };
    gate_api::router(state, Router::new(), Readiness::new(None), metrics)
}
