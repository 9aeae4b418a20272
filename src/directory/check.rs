//! Converts a row from a file or a request into a valid value, or returns every problem with it.

use std::fmt;

use super::change::{Link, Profile};
use super::rows::{CustomerRow, IdentityKeyRow, PaymentMethodRow, RecognitionTokenRow, ShopperRow, StoreRow};
use crate::digest::{Digest, HashKey};
use crate::domain::customer::Customer;
use crate::domain::identity_key::{MAX_DECODED, is_printable, is_scan_key_code};
use crate::domain::ids::{DeviceId, Issuer, PaymentSourceId, StoreId, SubjectId, TextIdError, VisitorId};
use crate::domain::scan_key_code::RecognitionToken;
use crate::domain::store::{ScanKeyWindow, Store};
use crate::domain::visitor::{Month, PaymentMethod, Shopper, Visitor};

/// One problem with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The member, such as `shopper` or `identityKeys[3].shopper`.
    pub(crate) path: String,
    /// The problem, and the valid values. It never contains a key or a token.
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }

    /// The same problem, with its path inside `outer`.
    pub(crate) fn within(self, outer: &str) -> Self {
        Self { path: format!("{outer}.{}", self.path), message: self.message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

type Checked<T> = Result<T, Vec<Problem>>;

/// The problems found so far. [`Problems::finish`] returns the value only if there are none.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem::new(path, message));
    }

    fn id<T>(&mut self, path: &str, text: &str, parse: fn(&str) -> Result<T, TextIdError>) -> Option<T> {
        if text.contains('\0') {
            self.add(path, "must not contain U+0000: PostgreSQL cannot store it");
            return None;
        }
        self.name(path, Some(text), parse)
    }

    /// A required name, with any characters.
    fn name<T>(&mut self, path: &str, text: Option<&str>, parse: fn(&str) -> Result<T, TextIdError>) -> Option<T> {
        let Some(text) = text else { return self.missing(path) };
        parse(text).map_err(|error| self.add(path, error.to_string())).ok()
    }

    fn missing<T>(&mut self, path: &str) -> Option<T> {
        self.add(path, "is missing");
        None
    }

    fn finish<T>(self, value: Option<T>) -> Checked<T> {
        value.filter(|_| self.0.is_empty()).ok_or(self.0)
    }
}

/// Checks a store.
pub(crate) fn store(row: &StoreRow) -> Checked<Store> {
    let mut problems = Problems::default();
    let window = row.scan_key_window_seconds.map_or(Some(ScanKeyWindow::DEFAULT), ScanKeyWindow::from_seconds);
    if window.is_none() {
        problems.add("scanKeyWindowSeconds", "must be 30 to 90");
    }
    let id = problems.id("id", &row.id, StoreId::parse);
    let store = id.zip(window).map(|(id, scan_key_window)| Store {
        id,
        enabled: row.enabled,
        takes_cash: row.takes_cash,
        default_gate_decision: row.default_gate_decision,
        scan_key_window,
        exit_policy: row.exit_policy,
    });
    problems.finish(store)
}

/// Checks a shopper.
pub(crate) fn shopper(row: &ShopperRow) -> Checked<Profile> {
    let mut problems = Problems::default();
    let payment_method = row.payment_method.as_ref().and_then(|method| payment_method(&mut problems, method));
    let devices = row.devices.iter().enumerate();
    let devices = devices
        .filter_map(|(number, device)| problems.id(&format!("devices[{number}]"), device, DeviceId::parse))
        .collect();
    let id = problems.id("id", &row.id, VisitorId::parse);
    let profile = id.map(|id| {
        let visitor = Visitor { id, kind: row.kind };
        Profile { shopper: Shopper { visitor, account: row.account, payment_method }, devices }
    });
    problems.finish(profile)
}

fn payment_method(problems: &mut Problems, row: &PaymentMethodRow) -> Option<PaymentMethod> {
    let id = row.id.as_ref().map(|id| problems.id("paymentMethod.id", id, PaymentSourceId::parse));
    let last_month = Month::parse(&row.last_month);
    if last_month.is_none() {
        problems.add("paymentMethod.lastMonth", "must be a month such as 2099-12");
    }
    Some(PaymentMethod { id: id.flatten(), last_valid_month: last_month? })
}

/// Checks an identity key, and returns its digest.
pub(crate) fn identity_key(row: &IdentityKeyRow, hash_key: &HashKey) -> Checked<(Digest, Link)> {
    let mut problems = Problems::default();
    let digest = match (&row.key, &row.digest) {
        (Some(key), None) => {
            if key.is_empty() || key.len() > MAX_DECODED || !is_printable(key) {
                problems.add("key", "must be 1 to 750 printable ASCII characters: a gate cannot send any other key");
            } else if is_scan_key_code(key) {
                problems
                    .add("key", "starts with JWO and has 49 characters or more: it would be read as a Scan Key Code");
            }
            Some(hash_key.identity_key(key))
        }
        (None, digest) => parse_digest(&mut problems, "key", digest.as_deref()),
        (Some(_), Some(_)) => refuse_both(&mut problems, "key"),
    };
    let link = link(&mut problems, row.shopper.as_deref(), row.device.as_deref(), row.revoked);
    let link = link.map(|link| Link { channel: row.channel, ..link });
    problems.finish(digest.zip(link))
}

/// Checks a recognition token, and returns its digest.
pub(crate) fn recognition_token(row: &RecognitionTokenRow, hash_key: &HashKey) -> Checked<(Digest, Link)> {
    let mut problems = Problems::default();
    let digest = match (&row.token, &row.digest) {
        (Some(token), None) => RecognitionToken::parse(token)
            .map(|token| hash_key.recognition_token(&token))
            .map_err(|error| problems.add("token", error.to_string()))
            .ok(),
        (None, digest) => parse_digest(&mut problems, "token", digest.as_deref()),
        (Some(_), Some(_)) => refuse_both(&mut problems, "token"),
    };
    let link = link(&mut problems, row.shopper.as_deref(), row.device.as_deref(), row.revoked);
    problems.finish(digest.zip(link))
}

/// Checks a customer, and returns its digest. Issuer and subject are not stored, so they may contain any characters.
pub(crate) fn customer(row: &CustomerRow, hash_key: &HashKey) -> Checked<(Digest, VisitorId)> {
    let mut problems = Problems::default();
    let digest = match (&row.issuer, &row.subject, &row.digest) {
        (None, None, Some(digest)) => parse_digest(&mut problems, "issuer", Some(digest)),
        (.., Some(_)) => refuse_both(&mut problems, "issuer and the subject"),
        (issuer, subject, None) => {
            let issuer = problems.name("issuer", issuer.as_deref(), Issuer::parse);
            let subject = problems.name("subject", subject.as_deref(), SubjectId::parse);
            issuer.zip(subject).map(|(issuer, subject)| hash_key.customer(&Customer::Known { issuer, subject }))
        }
    };
    let shopper = match &row.shopper {
        Some(shopper) => problems.id("shopper", shopper, VisitorId::parse),
        None => problems.missing("shopper"),
    };
    problems.finish(digest.zip(shopper))
}

/// Checks a device.
pub(super) fn device(text: &str) -> Checked<DeviceId> {
    let mut problems = Problems::default();
    let device = problems.id("device", text, DeviceId::parse);
    problems.finish(device)
}

/// Parses the digest that a row gives instead of the value itself.
fn parse_digest(problems: &mut Problems, field: &str, digest: Option<&str>) -> Option<Digest> {
    let Some(digest) = digest else {
        return problems.missing(field);
    };
    let parsed = Digest::from_hex(digest);
    if parsed.is_none() {
        problems.add("digest", "must be 64 hexadecimal digits, as in an export");
    }
    parsed
}

fn refuse_both(problems: &mut Problems, field: &str) -> Option<Digest> {
    problems.add("digest", format!("give either the {field} or the digest, not both"));
    None
}

fn link(problems: &mut Problems, shopper: Option<&str>, device: Option<&str>, revoked: bool) -> Option<Link> {
    if shopper.is_none() && !revoked {
        problems.add("shopper", "is missing: only a revoked key or token may have no shopper");
    }
    let shopper = shopper.map(|shopper| problems.id("shopper", shopper, VisitorId::parse));
    let device = device.map(|device| problems.id("device", device, DeviceId::parse));
    Some(Link { shopper: shopper.flatten(), device: device.flatten(), channel: None, revoked })
}
