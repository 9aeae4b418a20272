//! Shared by the targets: a whole connector in this process, and a connection to it.
//!
//! A target is a client: it sends bytes over a socket and reads an answer, so no internals need to be public for
//! fuzzing. Everything runs on one thread, and the connector's clock moves only if a target moves it, so that a run can
//! be repeated.

mod provider;
mod wire;

use std::cell::RefCell;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chrono::DateTime;
use identity_connector::app;
use identity_connector::clock::{Clock, ManualClock};
use identity_connector::config::{Config, Mode, Sources};
use identity_connector::testing::directory::Faults;
use tokio::runtime::{Builder, Runtime};

pub use provider::{AUDIENCE, Provider};
pub use wire::{Answer, Wire};

/// The start of the connector's clock: 2024-02-09T17:54:00Z.
pub const NOW: i64 = 1_707_501_240;
/// The key of anonymous tokens.
pub const SIGNING_KEY: &[u8; 32] = b"the fuzzers' own signing key. 32";
/// The key of customer contexts.
pub const CONTEXT_KEY: &[u8; 32] = b"the fuzzers' own context key. 32";
/// The demo's `X-Auth-Key`.
pub const AUTH_KEY: &str = "demo-authorization-key";

/// A demo in memory, an OpenID provider, and a connection.
pub struct Connector {
    pub clock: ManualClock,
    pub provider: Provider,
    api: std::net::SocketAddr,
    wire: Option<Wire>,
}

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("the runtime starts");
    static CONNECTOR: RefCell<Option<Connector>> = const { RefCell::new(None) };
}

/// Runs a function with the connector, which is started by the first call.
pub fn with_connector<T>(act: impl AsyncFnOnce(&mut Connector) -> T) -> T {
    RUNTIME.with(|runtime| {
        CONNECTOR.with_borrow_mut(|connector| {
            runtime.block_on(async {
                if connector.is_none() {
                    *connector = Some(Connector::start().await);
                }
                act(connector.as_mut().expect("the connector has started")).await
            })
        })
    })
}

impl Connector {
    async fn start() -> Self {
        let provider = Provider::start().await;
        let settings = [
            ("SERVER__BIND", "127.0.0.1:0".to_owned()),
            ("MANAGEMENT__BIND", "127.0.0.1:0".to_owned()),
            ("SERVER__HEADER_TIMEOUT", "1h".to_owned()),
            ("SERVER__IDLE_TIMEOUT", "1h".to_owned()),
            ("RATE_LIMIT__REQUESTS_PER_SECOND", "1000000000".to_owned()),
            ("RATE_LIMIT__BURST", "1000000000".to_owned()),
            ("COMMERCE__REQUESTS_PER_SECOND", "1000000".to_owned()),
            ("COMMERCE__BURST", "1000000".to_owned()),
            ("COMMERCE__SIGNING_KEYS", BASE64_STANDARD.encode(SIGNING_KEY)),
            ("COMMERCE__CONTEXT_KEYS", BASE64_STANDARD.encode(CONTEXT_KEY)),
            ("COMMERCE__IDENTITY_PROVIDERS__FUZZ__ISSUER", provider.issuer().to_owned()),
            ("COMMERCE__IDENTITY_PROVIDERS__FUZZ__AUDIENCE", AUDIENCE.to_owned()),
            ("COMMERCE__IDENTITY_PROVIDERS__FUZZ__ALGORITHMS", "EdDSA".to_owned()),
            ("LEDGER__CAPACITY", "10000".to_owned()),
        ];
        let environment = settings.into_iter().map(|(name, value)| (format!("CONNECTOR__{name}").into(), value.into()));
        let sources = Sources { environment: environment.collect(), ..Sources::default() };
        let config = Config::load(Mode::Demo, &sources).expect("the settings are valid");
        let clock = ManualClock::starting_at(DateTime::from_timestamp(NOW, 0).expect("NOW is a valid time"));
        let app = app::build_with(config, Clock::Manual(clock.clone()), Faults::default())
            .await
            .expect("the connector starts");
        let api = app.api_address();
        tokio::spawn(app.run(std::future::pending()));
        let mut connector = Self { clock, provider, api, wire: None };
        connector.wait_for_provider_keys().await;
        connector
    }

    /// Waits until the connector has the provider's keys. Until then, the provider's tokens get a 503.
    async fn wait_for_provider_keys(&mut self) {
        let token = self.provider.token(&self.provider.claims("customer"));
        for _ in 0..600 {
            if self.context_of(token.as_bytes()).await.status == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the connector did not fetch the provider's keys");
    }

    /// Sends a request and returns its answer.
    ///
    /// A slow answer is ignored and the request sent again: on a busy machine the connector's deadlines, of a second
    /// and more, may have passed.
    pub async fn ask(&mut self, request: &[u8]) -> Answer {
        loop {
            let mut wire = match self.wire.take() {
                Some(wire) => wire,
                None => Wire::connect(self.api).await,
            };
            let began = std::time::Instant::now();
            let answer = wire.ask(request).await;
            if answer.keeps_connection() {
                self.wire = Some(wire);
            }
            if began.elapsed() < Duration::from_millis(800) {
                answer.assert_form();
                return answer;
            }
        }
    }

    /// `POST /v1/identity/identity-keys` with this body.
    pub async fn verify(&mut self, body: &[u8]) -> Answer {
        let head =
            format!("POST /v1/identity/identity-keys HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        self.ask(&[head.as_bytes(), body].concat()).await
    }

    /// Asks for the customer context of a token.
    pub async fn context_of(&mut self, token: &[u8]) -> Answer {
        let path = "GET /commerceapi/authentication/customercontext HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ";
        self.ask(&[path.as_bytes(), token, b"\r\n\r\n"].concat()).await
    }

    /// Requests the carts of the customer with this token and context.
    pub async fn carts(&mut self, token: &[u8], context: &[u8]) -> Answer {
        let head: &[u8] = b"GET /commerceapi/cart HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ";
        self.ask(&[head, token, b"\r\nx-customer-context: ", context, b"\r\n\r\n"].concat()).await
    }

    /// An anonymous token.
    pub async fn anonymous_token(&mut self) -> String {
        let head = format!(
            "POST /commerceapi/authentication HTTP/1.1\r\nhost: x\r\nx-auth-key: {AUTH_KEY}\r\ncontent-length: 0\r\n\r\n"
        );
        let answer = self.ask(head.as_bytes()).await;
        answer.json()["accessToken"].as_str().expect("the answer has an accessToken").to_owned()
    }
}

/// The bytes that are allowed in a header value.
pub fn header_value(bytes: &[u8]) -> Vec<u8> {
    let line: Vec<u8> = bytes.iter().copied().filter(|byte| matches!(byte, 0x20..=0x7e | 0x80..)).collect();
    line.trim_ascii().to_vec()
}

/// Base64 as in tokens and contexts: URL-safe and without padding.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
