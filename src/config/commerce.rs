//! `commerce.*`: the shopper's side.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use chrono::TimeDelta;
use jsonwebtoken::Algorithm;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use super::layers::IDENTITY_PROVIDERS;
use super::reader::Reader;
use super::{MINUTE, Mode, delta};
use crate::commerce::{AnonymousTokens, ContextKeys, KEY_LENGTH, ProviderSettings, is_issuer};
use crate::domain::ids::Issuer;
use crate::rate_limit::Allowance;

/// How many shoppers and peers are told apart by their limits.
const MAX_CALLERS: usize = 100_000;
pub(super) const MILLION: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();
/// The shortest authorization key, in characters.
const LEAST_KEY: usize = 16;
/// The shortest life of a code's recognition token: longer than any store's window, the network's time and a gate's retries.
const CODE_LIFETIME: std::time::Duration = MINUTE.saturating_mul(3);

/// The shopper's side, every part of it valid and fit for the others.
#[derive(Clone, Debug)]
pub struct Commerce {
    /// The address of its endpoints; `None` where they share the API's.
    pub bind: Option<SocketAddr>,
    /// What an app sends to be given an anonymous token: one of these.
    pub authorization_keys: Vec<SecretString>,
    /// How anonymous tokens are made.
    pub tokens: AnonymousTokens,
    /// How customer contexts are sealed.
    pub contexts: ContextKeys,
    /// Who else vouches for customers.
    pub providers: Vec<ProviderSettings>,
    /// What each token, or each peer without one, may ask.
    pub allowance: Allowance,
    /// How often a peer may be wrong about the authorization key.
    pub failures_per_minute: NonZeroU32,
    /// How many requests there may be at once.
    pub max_in_flight: u32,
    /// How many anonymous customers may have carts.
    pub anonymous_carts: usize,
    /// How many connections its own port takes at once.
    pub max_connections: u32,
    /// Which web pages may call it.
    pub allowed_origins: Vec<String>,
    /// How long the recognition token of a code is known.
    pub code_lifetime: TimeDelta,
    /// How many of them a shopper may have at once.
    pub codes_per_shopper: usize,
}

/// `None` when it is not enabled, or cannot be: then that is noted.
pub(super) fn read(reader: &mut Reader, mode: Mode) -> Option<Commerce> {
    let per_second = reader.integer("commerce.requests_per_second", NonZeroU32::MIN, NonZeroU32::MIN..=MILLION);
    let burst = reader.integer("commerce.burst", NonZeroU32::MIN, NonZeroU32::MIN..=MILLION);
    let failures_per_minute =
        reader.integer("commerce.failures_per_minute", NonZeroU32::MIN, NonZeroU32::MIN..=MILLION);
    let max_in_flight = reader.integer("commerce.max_in_flight", 1, 1..=100_000);
    let lifetime = reader.duration("commerce.token_lifetime", MINUTE..=MINUTE.saturating_mul(24 * 60));
    let code_lifetime = reader.duration("commerce.code_lifetime", CODE_LIFETIME..=MINUTE.saturating_mul(60));
    let codes_per_shopper = reader.integer("commerce.codes_per_shopper", 1, 1..=1000);
    let anonymous_carts = reader.integer("commerce.anonymous_carts", 1, 1..=100_000_000);
    let max_connections = reader.integer("commerce.max_connections", 1, 1..=1_000_000);
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
    let signs = |key: &SecretSlice<u8>| signing_keys.iter().any(|other| other.expose_secret() == key.expose_secret());
    if context_keys.iter().any(|key| signs(key) && !key.expose_secret().is_empty()) {
        reader.refuse_secret("commerce.context_keys", "must not have a key that is among commerce.signing_keys");
    }
    let signing_keys = made_up(reader, mode, signing_keys, "commerce.signing_keys");
    let context_keys = made_up(reader, mode, context_keys, "commerce.context_keys");
    if authorization_keys.is_empty() {
        needed(reader, "commerce.authorization_key", "at least 16 printable ASCII characters without spaces");
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

/// The one key, or the old and the new one.
fn authorization_keys(reader: &mut Reader) -> Vec<SecretString> {
    let setting = "commerce.authorization_key";
    let Some(text) = reader.secret(setting, LEAST_KEY) else { return Vec::new() };
    let keys: Vec<&str> = text.expose_secret().split(',').collect();
    if keys.len() > 2 || keys.iter().any(|key| key.len() < LEAST_KEY) {
        let what =
            format!("must be one key, or two with a comma between them, each of at least {LEAST_KEY} characters");
        reader.refuse_secret(setting, &what);
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

/// The keys, or in a demo one that lives as long as the process: nobody else has to know it.
fn made_up(reader: &mut Reader, mode: Mode, keys: Vec<SecretSlice<u8>>, setting: &str) -> Vec<SecretSlice<u8>> {
    let mut key = vec![0; KEY_LENGTH];
    match keys.is_empty() {
        true if mode.is_demo() && getrandom::fill(&mut key).is_ok() => vec![key.into()],
        true => {
            needed(reader, setting, "32 bytes in Base64, such as `openssl rand -base64 32` makes");
            keys
        }
        false => keys,
    }
}

/// Notes that a secret is missing, unless it is noted already that it cannot be read.
fn needed(reader: &mut Reader, setting: &str, what: &str) {
    if !reader.has_problem(setting) {
        reader.refuse_secret(setting, &format!("is required with commerce.enabled: {what}"));
    }
}

fn origins(reader: &mut Reader) -> Vec<String> {
    let setting = "commerce.allowed_origins";
    let origins = reader.list(setting);
    for origin in &origins {
        let is_one = Url::parse(origin)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == *origin);
        // A host may have a star, as far as a URL is concerned; but no browser says so, and it would let nobody in.
        if !is_one || origin.contains('*') {
            reader.refuse(setting, &format!("{origin:?} is no origin, such as https://shop.example.com"));
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
        let what = "must be an https URL, or an http URL on loopback, without a query, of up to 255 characters";
        reader.refuse(&setting("issuer"), what);
    } else if !issuers.insert(issuer.clone()) {
        reader.refuse(&setting("issuer"), "must be no other provider's, and not commerce.issuer");
    }
    let audiences = reader.list(&setting("audience"));
    if audiences.is_empty() {
        reader.refuse(&setting("audience"), "must name what its tokens are meant for");
    }
    let known = [("RS256", Algorithm::RS256), ("ES256", Algorithm::ES256), ("EdDSA", Algorithm::EdDSA)];
    let words = reader.list(&setting("algorithms"));
    let find = |word: &String| known.iter().find(|(known, _)| known == word).map(|(_, algorithm)| *algorithm);
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
