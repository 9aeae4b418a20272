//! `server.*`, `management.*`, `tls.*` and the Redis of `rate_limit.*`: the ports, the callers that may use them, and
//! the limits of their connections.
//!
//! The last check is for settings that are valid separately but unsafe together: ports that are open to the network
//! without authentication, and ports that must be separate.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::layers::CALLERS;
use super::reader::Reader;
use super::{Config, MINUTE, Management, Mode, SECOND, Server};
use crate::callers::{Caller, KeyDigest, Stores};
use crate::domain::ids::StoreId;
use crate::rate_limit::RedisUrl;
use crate::tls::TlsSettings;

/// The maximum number of keys of one caller: the old one and the new one.
const MAX_KEYS: usize = 2;
/// The value that means all stores.
const ALL: &str = "*";

const CERTIFICATE: &str = "tls.certificate";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "tls.client_authority";

pub(super) fn server(reader: &mut Reader) -> Server {
    Server {
        bind: reader.address("server.bind"),
        callers: callers(reader),
        trusted_proxies: reader.networks("server.trusted_proxies"),
        max_connections: reader.integer("server.max_connections", 1..=1_000_000),
        handshake_timeout: reader.duration("server.handshake_timeout", SECOND..=MINUTE),
        max_in_flight: reader.integer("server.max_in_flight", 1..=100_000),
        header_timeout: reader.duration("server.header_timeout", SECOND..=MINUTE.saturating_mul(60)),
        idle_timeout: reader.duration("server.idle_timeout", SECOND..=MINUTE.saturating_mul(60)),
        answer_timeout: reader.duration("server.answer_timeout", SECOND..=MINUTE.saturating_mul(60)),
        stop_delay: reader.duration("server.stop_delay", Duration::ZERO..=MINUTE.saturating_mul(5)),
        grace_period: reader.duration("server.grace_period", Duration::ZERO..=MINUTE.saturating_mul(5)),
    }
}

pub(super) fn management(reader: &mut Reader) -> Management {
    Management { bind: reader.address("management.bind"), token: reader.secret("management.token", 16) }
}

pub(super) fn shared_rate_limit(reader: &mut Reader) -> Option<RedisUrl> {
    let authorities = reader.file("rate_limit.ca");
    let Some(url) = reader.secret("rate_limit.url", 1) else {
        if authorities.is_some() {
            reader.refuse(
                "rate_limit.ca",
                "is used only with rate_limit.url: set rate_limit.url, or remove this setting",
            );
        }
        return None;
    };
    let url = RedisUrl::parse(url.expose_secret());
    let url = url.map_err(|error| reader.refuse_secret("rate_limit.url", &error.to_string())).ok()?;
    match authorities {
        None => Some(url),
        Some(authorities) => {
            url.with_authorities(&authorities).map_err(|error| reader.refuse("rate_limit.ca", &error.to_string())).ok()
        }
    }
}

/// `None` if there is no certificate, or if the files cannot be used; the errors are reported through `reader`.
pub(super) fn tls(reader: &mut Reader) -> Option<TlsSettings> {
    let [certificate, key, authority] = [CERTIFICATE, KEY, AUTHORITY].map(|setting| reader.text(setting));
    match (certificate.is_empty(), key.is_empty()) {
        (true, true) if authority.is_empty() => return None,
        (true, true) => {
            reader.refuse(AUTHORITY, "needs tls.certificate and tls.key: clients present certificates only with TLS");
            return None;
        }
        (true, false) => {
            reader.refuse(
                CERTIFICATE,
                "is required with tls.key: a PEM file, the certificate first, then the intermediate certificates",
            );
            return None;
        }
        (false, true) => {
            reader.refuse(KEY, "is required with tls.certificate: a PEM file with its private key");
            return None;
        }
        (false, false) => {}
    }
    let client_authority = (!authority.is_empty()).then(|| authority.into());
    let settings = TlsSettings { certificate: certificate.into(), key: key.into(), client_authority };
    if let Err(error) = settings.check() {
        for problem in error.0 {
            reader.refuse(problem.setting, &problem.message);
        }
        return None;
    }
    Some(settings)
}

/// The credentials of the callers that are already read, with the name of each caller, to find duplicates.
#[derive(Default)]
struct Seen {
    keys: HashMap<KeyDigest, String>,
    subjects: HashMap<String, String>,
}

fn callers(reader: &mut Reader) -> Vec<Caller> {
    let has_authority = !reader.text("tls.client_authority").is_empty();
    let mut seen = Seen::default();
    let names = reader.sections(CALLERS);
    names.into_iter().filter_map(|name| caller(reader, &name, has_authority, &mut seen)).collect()
}

fn caller(reader: &mut Reader, name: &str, has_authority: bool, seen: &mut Seen) -> Option<Caller> {
    if !reader.is_section_name(CALLERS, name) {
        return None;
    }
    let setting = |key: &str| format!("{CALLERS}{name}.{key}");
    let keys = keys(reader, &setting("api_key_sha256"), name, seen);
    let subject = reader.text(&setting("certificate_subject"));
    if !subject.is_empty() {
        if !has_authority {
            reader.refuse(
                &setting("certificate_subject"),
                "needs tls.client_authority, the CA that issues client certificates",
            );
        }
        if let Some(other) = seen.subjects.insert(subject.clone(), name.to_owned()) {
            reader.refuse(&setting("certificate_subject"), &format!("is already the subject of caller {other}"));
        }
    }
    if reader.text(&setting("api_key_sha256")).is_empty() && subject.is_empty() {
        let message = "must be set, or certificate_subject: a caller needs credentials";
        reader.refuse(&setting("api_key_sha256"), message);
    }
    let stores = stores(reader, &setting("stores"));
    let certificate_subject = (!subject.is_empty()).then_some(subject);
    Some(Caller { name: name.into(), keys, certificate_subject, stores })
}

fn keys(reader: &mut Reader, setting: &str, name: &str, seen: &mut Seen) -> Vec<KeyDigest> {
    let words = reader.list(setting);
    if words.len() > MAX_KEYS {
        reader.refuse(setting, "must be one digest, or two while the key is being changed");
    }
    let mut keys = Vec::new();
    if words.iter().any(|word| word.bytes().all(|byte| byte == b'0')) {
        reader.refuse(setting, "is a placeholder: replace it with the SHA-256 of the caller's API key");
    }
    for word in words {
        let Some(key) = KeyDigest::from_hex(&word) else {
            // The value may be the key itself, so it is not printed.
            let message =
                "must be 64 hexadecimal digits, such as `printf %s \"$KEY\" | sha256sum` prints, not the key itself";
            reader.refuse_secret(setting, message);
            continue;
        };
        if key == KeyDigest::from_key(b"") {
            reader.refuse_secret(setting, "is the SHA-256 of an empty key");
        }
        match seen.keys.insert(key, name.to_owned()) {
            Some(other) if other == name => reader.refuse_secret(setting, "contains the same key twice"),
            Some(other) => reader.refuse_secret(setting, &format!("contains a key that caller {other} already has")),
            None => keys.push(key),
        }
    }
    keys
}

fn stores(reader: &mut Reader, setting: &str) -> Stores {
    let words = reader.list(setting);
    if words.iter().any(|word| word == ALL) {
        if words.len() > 1 {
            reader.refuse(setting, "must be * alone, or a list of store ids");
        }
        return Stores::All;
    }
    if words.is_empty() {
        reader.refuse(setting, "must be a list of store ids, or * for all stores");
    }
    let mut stores = HashSet::new();
    for word in &words {
        match StoreId::parse(word) {
            Ok(store) => drop(stores.insert(store)),
            Err(error) => reader.refuse(setting, &format!("{word:?} {error}")),
        }
    }
    Stores::Only(stores)
}

/// Reports every unsafe combination.
pub(super) fn check(reader: &mut Reader, mode: Mode, config: &Config) {
    let overlap = |first: SocketAddr, second: SocketAddr| {
        let same_ip = first.ip() == second.ip() || first.ip().is_unspecified() || second.ip().is_unspecified();
        first.port() != 0 && first.port() == second.port() && same_ip
    };
    if overlap(config.server.bind, config.management.bind) {
        reader.refuse("management.bind", "must not be the API's port");
    }
    let shoppers = config.commerce.as_ref().and_then(|commerce| commerce.bind);
    if shoppers.is_some_and(|bind| overlap(bind, config.server.bind) || overlap(bind, config.management.bind)) {
        reader.refuse(
            "commerce.bind",
            "must differ from server.bind and management.bind, or be empty to share the API's port",
        );
    }
    let requests_certificates = config.tls.as_ref().is_some_and(|tls| tls.client_authority.is_some());
    if requests_certificates && config.commerce.is_some() && shoppers.is_none() {
        reader.refuse(
            "commerce.bind",
            "must be a separate port with tls.client_authority: phones have no client certificates, and on a shared port every client \
             is asked for one",
        );
    }

    let may_share = reader.boolean("commerce.share_port");
    let shares = config.commerce.is_some() && shoppers.is_none() && !config.server.bind.ip().is_loopback();
    if mode == Mode::Serve && shares && !may_share {
        reader.refuse(
            "commerce.bind",
            "must be a separate port when server.bind is not loopback: on a shared port, phones can use up the connections that gates \
             need. Set commerce.share_port = true only behind a proxy that limits them",
        );
    }
    let allowed = reader.boolean("server.allow_unauthenticated");
    let (api, management) = (config.server.bind.ip().is_loopback(), config.management.bind.ip().is_loopback());
    if mode == Mode::PublishedDemo {
        return;
    }
    if mode == Mode::Demo {
        let loopback = "must be a loopback address such as 127.0.0.1 or [::1], because the demo's keys are public: pass --publish \
                        to listen on other addresses, with random keys for administration, apps and the page";
        if !api {
            reader.refuse("server.bind", loopback);
        }
        if !management {
            reader.refuse("management.bind", loopback);
        }
        if shoppers.is_some_and(|bind| !bind.ip().is_loopback()) {
            reader.refuse("commerce.bind", loopback);
        }
        return;
    }
    let no_callers = config.server.callers.is_empty() && reader.sections(CALLERS).is_empty();
    if !api && no_callers && !allowed {
        reader.refuse(
            "server.bind",
            "is not loopback, and no caller is configured: configure server.callers, or bind to loopback, or set \
             server.allow_unauthenticated = true behind a proxy that authenticates Amazon's gateway",
        );
    }
    if allowed && !no_callers {
        reader.refuse("server.allow_unauthenticated", "cannot be combined with server.callers: remove one of them");
    }
    if !management && config.management.token.is_none() {
        reader.refuse(
            "management.bind",
            "is not loopback: set management.token (or management.token_file), or bind to loopback",
        );
    }
}
