//! `scan_key.*` and `commerce.*`: the codes of shopper apps, and the API that the apps use.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use chrono::TimeDelta;
use jsonwebtoken::Algorithm;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::layers::IDENTITY_PROVIDERS;
use super::reader::Reader;
use super::{MINUTE, Mode, delta};
use crate::domain::ids::Issuer;
use crate::domain::scan_key_code::{ScanKeyFormat, SigningKeys, TimestampUnit};
use crate::rate_limit::Allowance;
use crate::shopper::{AnonymousTokens, ContextKeys, KEY_LENGTH, ProviderSettings, is_issuer};

/// The maximum number of shoppers and addresses with their own rate limit.
const MAX_CALLERS: usize = 100_000;
pub(super) const MILLION: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();
/// The minimum length of an authorization key, in characters.
const MIN_KEY_LENGTH: usize = 16;
/// The minimum of `commerce.code_lifetime`: more than the longest window of a store, the network allowance and the
/// retries of a gate together.
const MIN_CODE_LIFETIME: std::time::Duration = MINUTE.saturating_mul(3);

/// The settings of the shopper API. All are valid, and consistent with each other.
#[derive(Clone, Debug)]
pub struct Commerce {
    /// The address of its endpoints; `None` if they share the API's.
    pub bind: Option<SocketAddr>,
    /// The keys with which an app gets an anonymous token.
    pub authorization_keys: Vec<SecretString>,
    /// Creates and verifies anonymous tokens.
    pub tokens: AnonymousTokens,
    /// Encrypt and decrypt customer contexts.
    pub contexts: ContextKeys,
    /// The configured identity providers.
    pub providers: Vec<ProviderSettings>,
    /// The rate limit of each token, or of each address without a token.
    pub allowance: Allowance,
    /// The number of wrong authorization keys a minute from one address that are answered with 401.
    pub failures_per_minute: NonZeroU32,
    /// The maximum number of requests at the same time.
    pub max_in_flight: u32,
    /// The maximum number of anonymous customers with carts.
    pub anonymous_carts: usize,
    /// The connection limit of its separate port.
    pub max_connections: u32,
    /// The web origins whose pages may call it.
    pub allowed_origins: Vec<String>,
    /// How long the recognition token of a code is valid.
    pub code_lifetime: TimeDelta,
    /// The maximum number of valid codes of one shopper.
    pub codes_per_shopper: usize,
}

pub(super) fn signing_keys(reader: &mut Reader) -> Option<SigningKeys> {
    let keys = reader.secret_list("scan_key.signing_keys", &(32..=usize::MAX));
    SigningKeys::new(keys.iter().map(ExposeSecret::expose_secret))
}

/// The format of codes, and whether a code opens only one event.
pub(super) fn scan_key(reader: &mut Reader) -> (Option<ScanKeyFormat>, bool) {
    let problems_before = reader.problem_count();
    let keys = signing_keys(reader);
    let keys_are_valid = reader.problem_count() == problems_before;
    let single_use = reader.boolean("scan_key.single_use");
    if single_use && keys.is_none() && keys_are_valid {
        let message = "needs scan_key.signing_keys: anyone who sees an unsigned code can create others from it";
        reader.refuse("scan_key.single_use", message);
    }
    let units = [("seconds", TimestampUnit::Seconds), ("milliseconds", TimestampUnit::Milliseconds)];
    let unit = reader.one_of("scan_key.timestamp_unit", TimestampUnit::Seconds, &units);
    let prefix = reader.text("scan_key.customer_prefix");
    if prefix.is_empty() {
        return (None, single_use);
    }
    let format = ScanKeyFormat::new(&prefix, unit, keys);
    (format.map_err(|error| reader.refuse("scan_key.customer_prefix", &error.to_string())).ok(), single_use)
}

/// `None` if the shopper API is not enabled, or if its settings are not valid; the errors are reported through
/// `reader`.
pub(super) fn commerce(reader: &mut Reader, mode: Mode) -> Option<Commerce> {
    let per_second = reader.integer("commerce.requests_per_second", NonZeroU32::MIN..=MILLION);
    let burst = reader.integer("commerce.burst", NonZeroU32::MIN..=MILLION);
    let failures_per_minute = reader.integer("commerce.failures_per_minute", NonZeroU32::MIN..=MILLION);
    let max_in_flight = reader.integer("commerce.max_in_flight", 1..=100_000);
    let lifetime = reader.duration("commerce.token_lifetime", MINUTE..=MINUTE.saturating_mul(24 * 60));
    let code_lifetime = reader.duration("commerce.code_lifetime", MIN_CODE_LIFETIME..=MINUTE.saturating_mul(60));
    let codes_per_shopper = reader.integer("commerce.codes_per_shopper", 1..=1000);
    let anonymous_carts = reader.integer("commerce.anonymous_carts", 1..=100_000_000);
    let max_connections = reader.integer("commerce.max_connections", 1..=1_000_000);
    let bind = (!reader.text("commerce.bind").is_empty()).then(|| reader.address("commerce.bind"));
    let [issuer, audience] = ["commerce.issuer", "commerce.audience"].map(|setting| name(reader, setting));
    let providers = providers(reader, &issuer);
    let allowed_origins = origins(reader);
    let authorization_keys = authorization_keys(reader);
    let signing_keys = reader.secret_list("commerce.signing_keys", &(KEY_LENGTH..=usize::MAX));
    let context_keys = reader.secret_list("commerce.context_keys", &(KEY_LENGTH..=KEY_LENGTH));
    if !reader.boolean("commerce.enabled") {
        return None;
    }
    let is_signing_key =
        |key: &SecretSlice<u8>| signing_keys.iter().any(|other| other.expose_secret() == key.expose_secret());
    if context_keys.iter().any(|key| is_signing_key(key) && !key.expose_secret().is_empty()) {
        reader.refuse_secret("commerce.context_keys", "must not contain a key of commerce.signing_keys");
    }
    let signing_keys = or_random(reader, mode, signing_keys, "commerce.signing_keys");
    let context_keys = or_random(reader, mode, context_keys, "commerce.context_keys");
    if authorization_keys.is_empty() {
        refuse_missing(reader, "commerce.authorization_key", "at least 16 printable ASCII characters without spaces");
    }
    Some(Commerce {
        bind,
        authorization_keys,
        tokens: AnonymousTokens::new(issuer, audience, delta(lifetime), &signing_keys)?,
        contexts: ContextKeys::new(&context_keys)?,
        providers,
        allowance: Allowance { per_second, burst, max_callers: MAX_CALLERS },
        failures_per_minute,
        max_in_flight,
        anonymous_carts,
        max_connections,
        allowed_origins,
        code_lifetime: delta(code_lifetime),
        codes_per_shopper,
    })
}

/// One key, or the old and the new one.
fn authorization_keys(reader: &mut Reader) -> Vec<SecretString> {
    let setting = "commerce.authorization_key";
    let Some(text) = reader.secret(setting, MIN_KEY_LENGTH) else { return Vec::new() };
    let keys: Vec<&str> = text.expose_secret().split(',').collect();
    if keys.len() > 2 || keys.iter().any(|key| key.len() < MIN_KEY_LENGTH) {
        let message =
            format!("must be one key, or two separated by a comma, each of at least {MIN_KEY_LENGTH} characters");
        reader.refuse_secret(setting, &message);
    }
    keys.into_iter().map(SecretString::from).collect()
}

fn name(reader: &mut Reader, setting: &str) -> String {
    let name = reader.text(setting);
    if Issuer::parse(&name).is_err() {
        reader.refuse(setting, "must have 1 to 255 characters");
    }
    name
}

/// The configured keys; in a demo without any, a random key for this process.
fn or_random(reader: &mut Reader, mode: Mode, keys: Vec<SecretSlice<u8>>, setting: &str) -> Vec<SecretSlice<u8>> {
    let mut key = vec![0; KEY_LENGTH];
    match keys.is_empty() {
        true if mode.is_demo() && getrandom::fill(&mut key).is_ok() => vec![key.into()],
        true => {
            refuse_missing(reader, setting, "a key of 32 bytes in Base64; create it with `openssl rand -base64 32`");
            keys
        }
        false => keys,
    }
}

/// Reports that a secret is missing, unless it has another problem.
fn refuse_missing(reader: &mut Reader, setting: &str, form: &str) {
    if !reader.has_problem(setting) {
        reader.refuse_secret(setting, &format!("is required with commerce.enabled: {form}"));
    }
}

fn origins(reader: &mut Reader) -> Vec<String> {
    let setting = "commerce.allowed_origins";
    let origins = reader.list(setting);
    for origin in &origins {
        let is_origin = Url::parse(origin)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == *origin);
        // A host with a star is a valid URL, but no browser sends it, so the setting would have no effect.
        if !is_origin || origin.contains('*') {
            reader.refuse(setting, &format!("{origin:?} is not a web origin such as https://shop.example.com"));
        }
    }
    origins
}

fn providers(reader: &mut Reader, own_issuer: &str) -> Vec<ProviderSettings> {
    let mut issuers = BTreeSet::from([own_issuer.to_owned()]);
    let names = reader.sections(IDENTITY_PROVIDERS);
    names.into_iter().filter_map(|name| provider(reader, name, &mut issuers)).collect()
}

fn provider(reader: &mut Reader, name: String, issuers: &mut BTreeSet<String>) -> Option<ProviderSettings> {
    let setting = |key: &str| format!("{IDENTITY_PROVIDERS}{name}.{key}");
    if !reader.is_section_name(IDENTITY_PROVIDERS, &name) {
        return None;
    }
    let issuer = reader.text(&setting("issuer"));
    if !is_issuer(&issuer) || Issuer::parse(&issuer).is_err() {
        let message = "must be an https URL, or an http URL on loopback, without a query, of up to 255 characters";
        reader.refuse(&setting("issuer"), message);
    } else if !issuers.insert(issuer.clone()) {
        reader.refuse(&setting("issuer"), "is already the issuer of another provider, or commerce.issuer");
    }
    let audiences = reader.list(&setting("audience"));
    if audiences.is_empty() {
        reader.refuse(&setting("audience"), "must list the accepted aud claims");
    }
    let supported = [("RS256", Algorithm::RS256), ("ES256", Algorithm::ES256), ("EdDSA", Algorithm::EdDSA)];
    let words = reader.list(&setting("algorithms"));
    let find = |word: &String| supported.iter().find(|(name, _)| name == word).map(|(_, algorithm)| *algorithm);
    let algorithms: Vec<Algorithm> = words.iter().filter_map(find).collect();
    if words.is_empty() || algorithms.len() < words.len() {
        reader.refuse(&setting("algorithms"), "must be one or more of RS256, ES256 and EdDSA");
    }
    let customer_claim = reader.text(&setting("customer_claim"));
    if customer_claim.is_empty() {
        reader.refuse(&setting("customer_claim"), "must name a claim, such as sub");
    }
    let policies = [("link_only", false), ("create_shopper", true)];
    let creates_shoppers = reader.one_of(&setting("unknown_customers"), false, &policies);
    let issuer = Issuer::parse(&issuer).ok()?;
    Some(ProviderSettings { name, issuer, audiences, algorithms, customer_claim, creates_shoppers })
}
