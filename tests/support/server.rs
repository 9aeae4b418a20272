//! The whole connector inside the test process, and clients for its ports.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use identity_connector::app;
use identity_connector::clock::{Clock, ManualClock};
use identity_connector::config::{Config, Mode, Sources};
use identity_connector::testing::directory::Faults;
use identity_connector::testing::tls::Tls;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::checks::PATIENCE;
use super::{IDENTITY_KEYS, secrets};

/// Shorter than every time-out of a scan: an answer that comes sooner is not a time-out.
const TIME_OUT: Duration = Duration::from_millis(250);

/// The hash key of all databases that connectors share in tests.
pub(crate) const HASH_KEY: &str = "dGhlIGhhc2gga2V5IG9mIHRlc3RzLCAzMiBieXRlcy4=";

/// The bearer token of all management ports in tests, which [`client`] sends.
pub(crate) const MANAGEMENT_TOKEN: &str = "the-management-token-of-tests";

/// The whole service in this process, on free ports, with the demo's configuration and data. It stops when dropped.
pub(crate) struct Server {
    pub(crate) api: String,
    pub(crate) management: String,
    /// The URL of the shopper endpoints.
    pub(crate) shoppers: String,
    pub(crate) faults: Faults,
    pub(crate) clock: ManualClock,
    pub(crate) client: reqwest::Client,
    /// TLS, which can be reloaded while the connector runs.
    pub(crate) tls: Option<Tls>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
    settings: Vec<(String, String)>,
    /// Whether scans that time out are sent again.
    resends_timed_out_scans: bool,
    /// The folder or server of the database, dropped together with the connector.
    storage: Option<Box<dyn Any + Send + Sync>>,
    /// The identity backend, dropped together with the connector.
    backend: Option<Box<dyn Any + Send + Sync>>,
}

impl Server {
    /// Starts the connector with these settings, such as `("rate_limit.burst", "5")`.
    pub(crate) async fn demo(settings: &[(&str, &str)]) -> Self {
        Self::try_demo(settings).await.unwrap()
    }

    /// Starts the demo, or returns the error of the start.
    pub(crate) async fn try_demo(settings: &[(&str, &str)]) -> Result<Self, String> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::start(settings, ManualClock::starting_at(Clock::System.now()), |_| ()).await
    }

    /// A demo with `--publish` on all addresses, whose page requires this key. `api` is its loopback URL.
    pub(crate) async fn published(key: &str) -> Self {
        Self::published_on(Ipv4Addr::UNSPECIFIED.into(), key).await
    }

    /// Starts a published demo on this address.
    pub(crate) async fn published_on(address: IpAddr, key: &str) -> Self {
        let publish = |config: &mut Config| {
            config.server.bind = SocketAddr::new(address, 0);
            config.demo_key = Some(key.into());
        };
        Self::start(Vec::new(), ManualClock::starting_at(Clock::System.now()), publish).await.unwrap()
    }

    /// A connector with a SQLite file of its own.
    pub(crate) async fn sqlite(settings: &[(&str, &str)]) -> Self {
        Self::try_sqlite(settings).await.unwrap()
    }

    pub(crate) async fn try_sqlite(settings: &[(&str, &str)]) -> Result<Self, String> {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}", folder.path().join("connector.db").display());
        let settings = [&[("storage.url", url.as_str())], settings].concat();
        Ok(Self::try_demo(&settings).await?.with_owned_storage(folder))
    }

    /// A connector with this PostgreSQL database.
    pub(crate) async fn postgres(url: &str, settings: &[(&str, &str)]) -> Self {
        Self::try_postgres(url, settings).await.unwrap()
    }

    pub(crate) async fn try_postgres(url: &str, settings: &[(&str, &str)]) -> Result<Self, String> {
        Self::try_demo(&[&[("storage.url", url), ("security.hash_key", HASH_KEY)], settings].concat()).await
    }

    /// Another connector with the same settings, and so the same database, and the same clock.
    pub(crate) async fn replica(&self) -> Self {
        self.replica_with(&[]).await
    }

    /// Starts a replica with other values for some settings.
    pub(crate) async fn replica_with(&self, settings: &[(&str, &str)]) -> Self {
        let own = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = self.settings.iter().cloned().chain(own).collect();
        let mut replica = Self::start(settings, self.clock.clone(), |_| ()).await.unwrap();
        replica.resends_timed_out_scans = self.resends_timed_out_scans;
        replica
    }

    async fn start(
        settings: Vec<(String, String)>,
        clock: ManualClock,
        prepare: impl FnOnce(&mut Config),
    ) -> Result<Self, String> {
        secrets::watch_log();
        let defaults = [
            ("server.bind", "127.0.0.1:0"),
            ("management.bind", "127.0.0.1:0"),
            ("management.token", MANAGEMENT_TOKEN),
        ];
        // An empty environment variable counts as not set, so an empty value must be a default.
        let defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter();
        let (empty, given): (Vec<_>, Vec<_>) = settings.iter().cloned().partition(|(_, value)| value.is_empty());
        let given = given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>();
        let sources = Sources {
            defaults: defaults.chain(empty).collect(),
            environment: environment(&given).into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            ..Sources::default()
        };
        let mut config = Config::load(Mode::Demo, &sources).map_err(|error| error.to_string())?;
        prepare(&mut config);
        let faults = Faults::default();
        let app = app::build_with(config, Clock::Manual(clock.clone()), faults.clone());
        let app = app.await.map_err(|error| error.to_string())?;
        let (mut address, management) = (app.api_address(), app.management_address());
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let shoppers = app.shoppers_address().map_or_else(String::new, |address| format!("http://{address}"));
        let tls = app.tls().cloned();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(app.run(async { drop(stopped.await) }));
        Ok(Self {
            api: format!("http://{address}"),
            management: format!("http://{management}"),
            shoppers,
            faults,
            clock,
            client: client(),
            tls,
            address,
            stop: Some(stop),
            running,
            settings,
            resends_timed_out_scans: false,
            storage: None,
            backend: None,
        })
    }

    /// Sends scans that time out again, as a gate does. On a busy machine the database may be slower than a scan's
    /// deadline. A 429 or 500 that comes sooner is returned.
    pub(crate) fn resending_timed_out_scans(mut self) -> Self {
        self.resends_timed_out_scans = true;
        self
    }

    /// Keeps the folder or server of the database until the connector is dropped.
    pub(crate) fn with_owned_storage(mut self, storage: impl Any + Send + Sync) -> Self {
        self.storage = Some(Box::new(storage));
        self
    }

    /// Keeps the identity backend until the connector is dropped.
    pub(crate) fn with_owned_backend(mut self, backend: impl Any + Send + Sync) -> Self {
        self.backend = Some(Box::new(backend));
        self
    }

    /// A connector with this directory file.
    pub(crate) async fn with_directory(directory: Value, settings: &[(&str, &str)]) -> Self {
        let file = file_with(directory.to_string());
        Self::demo(&[&[("directory.file", file.path().to_str().unwrap())], settings].concat()).await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn verify(&self, body: &Value) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sent = Instant::now();
            let answer = self.post(body.to_string()).await;
            let timed_out = matches!(answer.status, 429 | 500) && sent.elapsed() >= TIME_OUT;
            if !self.resends_timed_out_scans || !timed_out || Instant::now() > deadline {
                return answer;
            }
        }
    }

    pub(crate) async fn post(&self, body: impl Into<Vec<u8>>) -> Answer {
        let url = format!("{}{IDENTITY_KEYS}", self.api);
        Answer::read(self.client.post(url).body(body.into()).send().await.unwrap()).await
    }

    /// All sessions, newest first.
    pub(crate) async fn sessions(&self) -> Vec<Value> {
        sessions(&self.management).await
    }

    pub(crate) async fn metrics(&self) -> String {
        let metrics = self.client.get(format!("{}/metrics", self.management)).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        secrets::assert_none_in(&metrics, "the metrics");
        metrics
    }

    /// The status in `/readyz` of both ports, which always answer 200.
    pub(crate) async fn readiness(&self) -> String {
        let mut statuses = Vec::new();
        for port in [&self.api, &self.management] {
            let answer = self.client.get(format!("{port}/readyz")).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            statuses.push(answer.json::<Value>().await.unwrap()["status"].as_str().unwrap().to_owned());
        }
        if statuses[0] == statuses[1] { statuses.swap_remove(0) } else { "changing".to_owned() }
    }

    /// Asks the connector to stop, as SIGTERM does, without waiting.
    pub(crate) fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the connector has stopped.
    pub(crate) async fn stopped(mut self) {
        self.ask_to_stop();
        tokio::time::timeout(Duration::from_secs(20), &mut self.running).await.unwrap().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let token = self.settings.iter().rfind(|(name, _)| name == "management.token");
        secrets::assert_none_in_metrics(&self.management, token.map_or(MANAGEMENT_TOKEN, |(_, token)| token));
        self.running.abort();
        secrets::assert_none_logged();
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads an answer. Asserts the headers of every answer: `no-store`, `nosniff`, and no name of the server software.
    pub(crate) async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let values = |name: &str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        // hyper itself answers a head that is too long.
        if status != 431 {
            assert_eq!(values("cache-control"), [b"no-store"], "{status} of {}", response.url());
            assert_eq!(values("x-content-type-options"), [b"nosniff"], "{status} of {}", response.url());
        }
        for banner in ["server", "x-powered-by", "via"] {
            assert!(values(banner).is_empty(), "{banner} in {status} of {}", response.url());
        }
        Self { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn message(&self) -> Option<String> {
        self.json().get("message").and_then(Value::as_str).map(str::to_owned)
    }
}

/// All sessions that a management port lists, newest first.
pub(crate) async fn sessions(management: &str) -> Vec<Value> {
    let (client, mut sessions, mut cursor) = (client(), Vec::new(), String::new());
    loop {
        let url = format!("{management}/admin/v1/sessions?limit=50{cursor}");
        let page: Value = client.get(url).send().await.unwrap().json().await.unwrap();
        sessions.extend(page["sessions"].as_array().unwrap().iter().cloned());
        match page.get("nextCursor") {
            Some(next) => cursor = format!("&cursor={}", next.as_str().unwrap()),
            None => return sessions,
        }
    }
}

/// An HTTP client with the token of the management port. It uses no proxy and, as it speaks plain HTTP, no root
/// certificates.
pub(crate) fn client() -> reqwest::Client {
    let bearer = HeaderValue::try_from(format!("Bearer {MANAGEMENT_TOKEN}")).unwrap();
    plain_client().default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)])).build().unwrap()
}

/// An HTTP client without credentials.
pub(crate) fn client_without_credentials() -> reqwest::Client {
    plain_client().build().unwrap()
}

fn plain_client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().tls_certs_only([])
}

/// Settings as environment variables.
pub(crate) fn environment<'a>(settings: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Vec<(String, String)> {
    let variable = |name: &str| format!("CONNECTOR__{}", name.to_uppercase().replace('.', "__"));
    settings.into_iter().map(|(name, value)| (variable(name), (*value).to_owned())).collect()
}

/// A file with this content. It is removed when dropped.
pub(crate) fn file_with(content: impl AsRef<[u8]>) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

/// Settings with borrowed names and values.
pub(crate) fn borrowed(settings: &[(impl AsRef<str>, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(name, value)| (name.as_ref(), value.as_str())).collect()
}
