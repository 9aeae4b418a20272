//! The rows of the directory: stores, shoppers, identity keys, recognition tokens and customers.
//!
//! A member of a row has all of its rules here: its type, its JSON form, its check, and its column in a CSV file. The
//! JSON form is the same in the directory file, in imports and exports, in the administration API and in answers of the
//! identity backend: names are camelCase; unknown members are refused, since they are usually misspelt. Keys, tokens,
//! issuers and subjects are only read, never written: an answer or an export has their digest instead.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{DeserializeSeed, EnumAccess, Error, VariantAccess as _, Visitor as Read};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use super::change::Change;
use crate::digest::{Digest, HashKey};
use crate::domain::customer::Customer;
use crate::domain::identity_key::{MAX_DECODED, is_printable, is_scan_key_code};
use crate::domain::ids::{DeviceId, Issuer, PaymentSourceId, StoreId, SubjectId, TextIdError, VisitorId};
use crate::domain::scan::KeyChannel;
use crate::domain::scan_key_code::RecognitionToken;
use crate::domain::store::{ExitPolicy, GateDefault, ScanKeyWindow, Store};
use crate::domain::visitor::{Account, Month, PaymentMethod, Shopper, Visitor, VisitorType};
use crate::domain::words::Words;

/// Identity key or recognition token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A badge or a static code.
    IdentityKey,
    /// The token inside a Scan Key Code.
    RecognitionToken,
}

impl Kind {
    /// Its name in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IdentityKey => "identity_key",
            Self::RecognitionToken => "recognition_token",
        }
    }
}

/// A shopper with their devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The shopper, with the state of the account.
    pub shopper: Arc<Shopper>,
    /// The devices that a key or token may identify.
    pub devices: Vec<DeviceId>,
}

impl Profile {
    /// A new shopper with an active account, no payment method and no devices.
    pub(super) fn new(id: VisitorId) -> Self {
        let visitor = Visitor { id, kind: VisitorType::Shopper };
        let shopper = Shopper { visitor, account: Account::Active, payment_method: None };
        Self { shopper: Arc::new(shopper), devices: Vec::new() }
    }
}

/// The shopper, device, channel and state that a key or token is registered with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The shopper that it identifies. Only a revoked key or token may have none.
    pub shopper: Option<VisitorId>,
    pub device: Option<DeviceId>,
    /// The only channel on which it is accepted; `None` is any channel.
    pub channel: Option<KeyChannel>,
    /// Whether it is refused as invalid.
    pub revoked: bool,
}

/// A value of one of the domain's enumerations, which JSON has as its word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word<T>(pub(crate) T);

impl<T: Words> Serialize for Word<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.word())
    }
}

impl<'de, T: Words> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("word", T::ALL, OneWord(PhantomData)).map(Self)
    }
}

/// Reads one of the words of `T`.
struct OneWord<T>(PhantomData<T>);

impl<'de, T: Words> Read<'de> for OneWord<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<T, A::Error> {
        let (value, variant) = access.variant_seed(self)?;
        variant.unit_variant()?;
        Ok(value)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<T, E> {
        T::from_word(word).ok_or_else(|| E::unknown_variant(word, T::ALL))
    }
}

impl<'de, T: Words> DeserializeSeed<'de> for OneWord<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<T: Words> utoipa::PartialSchema for Word<T> {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(T::ALL.iter().copied())).into()
    }
}

impl<T: Words> ToSchema for Word<T> {}

// utoipa cannot derive a schema with `Word<_>` itself: it would need one of the type in it.
type AccountWord = Word<Account>;
type ExitPolicyWord = Word<ExitPolicy>;
type GateDefaultWord = Word<GateDefault>;
type KeyChannelWord = Word<KeyChannel>;
type VisitorTypeWord = Word<VisitorType>;

/// What all kinds of rows have.
pub(crate) trait Row {
    /// The change that writes the row, or every problem with it.
    fn change(&self, hash_key: &HashKey) -> Checked<Change>;

    /// Calls `see` with the path and the value of each text that may have any form.
    fn see_texts(&self, see: &mut dyn FnMut(&str, Option<&str>));

    /// The digest that the row gives instead of a key, a token or a customer.
    fn given_digest(&self) -> Option<&str> {
        None
    }
}

/// A store.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Store)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoreRow {
    /// Optional where the path already gives it. Must not be empty.
    #[serde(default)]
    pub(crate) id: String,
    #[serde(default = "default_enabled")]
    pub(crate) enabled: bool,
    #[serde(default)]
    pub(crate) takes_cash: bool,
    #[serde(default)]
    #[schema(inline)]
    pub(crate) default_gate_decision: GateDefaultWord,
    #[schema(minimum = 30, maximum = 90)]
    pub(crate) scan_key_window_seconds: Option<u64>,
    #[serde(default)]
    #[schema(inline)]
    pub(crate) exit_policy: ExitPolicyWord,
}

fn default_enabled() -> bool {
    true
}

impl From<&Store> for StoreRow {
    fn from(store: &Store) -> Self {
        Self {
            id: store.id.as_str().to_owned(),
            enabled: store.enabled,
            takes_cash: store.takes_cash,
            default_gate_decision: Word(store.default_gate_decision),
            scan_key_window_seconds: Some(store.scan_key_window.seconds()),
            exit_policy: Word(store.exit_policy),
        }
    }
}

impl Row for StoreRow {
    fn change(&self, _: &HashKey) -> Checked<Change> {
        store(self).map(Change::PutStore)
    }

    fn see_texts(&self, see: &mut dyn FnMut(&str, Option<&str>)) {
        see("id", Some(&self.id));
    }
}

/// A shopper.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Shopper)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ShopperRow {
    /// Optional where the path already gives it. Must not be empty.
    #[serde(default)]
    pub(crate) id: String,
    #[serde(rename = "type")]
    #[schema(inline)]
    pub(crate) kind: VisitorTypeWord,
    #[serde(default)]
    #[schema(inline)]
    pub(crate) account: AccountWord,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payment_method: Option<PaymentMethodRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) devices: Vec<String>,
}

/// A payment method.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = PaymentMethod)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PaymentMethodRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) last_month: String,
}

impl From<&Profile> for ShopperRow {
    fn from(Profile { shopper, devices }: &Profile) -> Self {
        Self {
            id: shopper.visitor.id.as_str().to_owned(),
            kind: Word(shopper.visitor.kind),
            account: Word(shopper.account),
            payment_method: shopper.payment_method.as_ref().map(|method| PaymentMethodRow {
                id: method.id.as_ref().map(|id| id.as_str().to_owned()),
                last_month: method.last_valid_month.to_string(),
            }),
            devices: devices.iter().map(|device| device.as_str().to_owned()).collect(),
        }
    }
}

impl Row for ShopperRow {
    fn change(&self, _: &HashKey) -> Checked<Change> {
        shopper(self).map(Change::PutShopper)
    }

    fn see_texts(&self, see: &mut dyn FnMut(&str, Option<&str>)) {
        see("id", Some(&self.id));
        see("paymentMethod.id", self.payment_method.as_ref().and_then(|method| method.id.as_deref()));
        self.devices.iter().enumerate().for_each(|(number, id)| see(&format!("devices[{number}]"), Some(id)));
    }
}

/// Always: such a member is only read, never written. Not `skip_serializing`, with which utoipa leaves the member out
/// of the OpenAPI document.
fn is_secret(_: &Option<String>) -> bool {
    true
}

/// An identity key, given as the key itself or as its digest from an export.
#[derive(Deserialize, Serialize, ToSchema)]
#[schema(as = IdentityKey)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IdentityKeyRow {
    /// The key, 1 to 750 printable ASCII characters. Give this or `digest`. Never returned.
    #[serde(skip_serializing_if = "is_secret")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shopper: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    pub(crate) channel: Option<KeyChannelWord>,
    #[serde(default)]
    pub(crate) revoked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
}

/// A recognition token, given as the token itself or as its digest from an export.
#[derive(Deserialize, Serialize, ToSchema)]
#[schema(as = RecognitionToken)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RecognitionTokenRow {
    /// The token, 32 letters and digits. Give this or `digest`. Without both, the connector makes a token and returns it in this answer only.
    #[serde(skip_serializing_if = "is_secret")]
    pub(crate) token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shopper: Option<String>,
    #[serde(default)]
    pub(crate) revoked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
}

/// The link of a customer of an OpenID provider to a shopper, by issuer and subject or by digest.
#[derive(Deserialize, Serialize, ToSchema)]
#[schema(as = Customer)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CustomerRow {
    /// The provider's `issuer`. Give `issuer` and `subject`, or `digest`. Never returned.
    #[serde(skip_serializing_if = "is_secret")]
    pub(crate) issuer: Option<String>,
    /// The value of the provider's `customer_claim` (`sub` by default). Never returned.
    #[serde(skip_serializing_if = "is_secret")]
    pub(crate) subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shopper: Option<String>,
}

impl IdentityKeyRow {
    pub(crate) fn from_stored(digest: &Digest, link: &Link) -> Self {
        Self {
            key: None,
            digest: Some(digest.to_hex()),
            shopper: link.shopper.as_ref().map(VisitorId::as_str).map(str::to_owned),
            channel: link.channel.map(Word),
            revoked: link.revoked,
            device: link.device.as_ref().map(DeviceId::as_str).map(str::to_owned),
        }
    }
}

impl RecognitionTokenRow {
    pub(crate) fn from_stored(digest: &Digest, link: &Link) -> Self {
        let IdentityKeyRow { digest, shopper, revoked, device, .. } = IdentityKeyRow::from_stored(digest, link);
        Self { token: None, digest, shopper, revoked, device }
    }
}

impl CustomerRow {
    pub(crate) fn from_stored(digest: &Digest, shopper: &VisitorId) -> Self {
        Self { issuer: None, subject: None, digest: Some(digest.to_hex()), shopper: Some(shopper.as_str().to_owned()) }
    }
}

impl Row for IdentityKeyRow {
    fn change(&self, hash_key: &HashKey) -> Checked<Change> {
        identity_key(self, hash_key).map(|(digest, link)| Change::PutRegistration(Kind::IdentityKey, digest, link))
    }

    fn see_texts(&self, see: &mut dyn FnMut(&str, Option<&str>)) {
        see("key", self.key.as_deref());
        see("shopper", self.shopper.as_deref());
        see("device", self.device.as_deref());
    }

    fn given_digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

impl Row for RecognitionTokenRow {
    fn change(&self, hash_key: &HashKey) -> Checked<Change> {
        let checked = recognition_token(self, hash_key);
        checked.map(|(digest, link)| Change::PutRegistration(Kind::RecognitionToken, digest, link))
    }

    fn see_texts(&self, see: &mut dyn FnMut(&str, Option<&str>)) {
        see("shopper", self.shopper.as_deref());
        see("device", self.device.as_deref());
    }

    fn given_digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

impl Row for CustomerRow {
    fn change(&self, hash_key: &HashKey) -> Checked<Change> {
        customer(self, hash_key).map(|(digest, shopper)| Change::LinkCustomer(digest, shopper))
    }

    fn see_texts(&self, see: &mut dyn FnMut(&str, Option<&str>)) {
        see("issuer", self.issuer.as_deref());
        see("subject", self.subject.as_deref());
        see("shopper", self.shopper.as_deref());
    }

    fn given_digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

/// How a cell of a CSV file gives a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Text,
    Flag,
    Number,
    /// A list of ids.
    Ids,
    /// A text that is read and never written.
    Secret,
    /// A text within an object: the object's name, and the text's name in it.
    Within(&'static str, &'static str),
}

/// The members of all rows as columns of a CSV file, in the order in which they are written.
pub(crate) static COLUMNS: [(&str, Cell); 20] = [
    ("id", Cell::Text),
    ("enabled", Cell::Flag),
    ("takesCash", Cell::Flag),
    ("defaultGateDecision", Cell::Text),
    ("scanKeyWindowSeconds", Cell::Number),
    ("exitPolicy", Cell::Text),
    ("type", Cell::Text),
    ("account", Cell::Text),
    ("paymentMethodId", Cell::Within("paymentMethod", "id")),
    ("paymentMethodLastMonth", Cell::Within("paymentMethod", "lastMonth")),
    ("devices", Cell::Ids),
    ("key", Cell::Secret),
    ("token", Cell::Secret),
    ("issuer", Cell::Secret),
    ("subject", Cell::Secret),
    ("digest", Cell::Text),
    ("shopper", Cell::Text),
    ("channel", Cell::Text),
    ("device", Cell::Text),
    ("revoked", Cell::Flag),
];

/// A valid value for a member that a row must have, so that the other members of a row without it can be checked.
pub(crate) fn placeholder(member: &str) -> Option<serde_json::Value> {
    Some(match member {
        "type" => "SHOPPER".into(),
        "lastMonth" => "2099-12".into(),
        "digest" => "0".repeat(64).into(),
        "revoked" => true.into(),
        _ => return None,
    })
}

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

pub(crate) type Checked<T> = Result<T, Vec<Problem>>;

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

    /// The digest of a row that gives either the value itself, of which `hash` makes the digest, or the digest.
    fn digest(
        &mut self,
        field: &str,
        value: Option<&str>,
        digest: Option<&str>,
        hash: impl FnOnce(&mut Self, &str) -> Option<Digest>,
    ) -> Option<Digest> {
        match (value, digest) {
            (Some(value), None) => hash(self, value),
            (None, Some(digest)) => self.given_digest(digest),
            (None, None) => self.missing(field),
            (Some(_), Some(_)) => self.both(field),
        }
    }

    fn given_digest(&mut self, digest: &str) -> Option<Digest> {
        let parsed = Digest::from_hex(digest);
        if parsed.is_none() {
            self.add("digest", "must be 64 hexadecimal digits, as in an export");
        }
        parsed
    }

    fn both(&mut self, field: &str) -> Option<Digest> {
        self.add("digest", format!("give either the {field} or the digest, not both"));
        None
    }

    fn finish<T>(self, value: Option<T>) -> Checked<T> {
        value.filter(|_| self.0.is_empty()).ok_or(self.0)
    }
}

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
        default_gate_decision: row.default_gate_decision.0,
        scan_key_window,
        exit_policy: row.exit_policy.0,
    });
    problems.finish(store)
}

pub(crate) fn shopper(row: &ShopperRow) -> Checked<Profile> {
    let mut problems = Problems::default();
    let payment_method = row.payment_method.as_ref().and_then(|method| payment_method(&mut problems, method));
    let devices = row.devices.iter().enumerate();
    let devices = devices
        .filter_map(|(number, device)| problems.id(&format!("devices[{number}]"), device, DeviceId::parse))
        .collect();
    let id = problems.id("id", &row.id, VisitorId::parse);
    let profile = id.map(|id| {
        let visitor = Visitor { id, kind: row.kind.0 };
        let shopper = Shopper { visitor, account: row.account.0, payment_method };
        Profile { shopper: Arc::new(shopper), devices }
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
    let digest = problems.digest("key", row.key.as_deref(), row.digest.as_deref(), |problems, key| {
        if key.is_empty() || key.len() > MAX_DECODED || !is_printable(key) {
            problems.add("key", "must be 1 to 750 printable ASCII characters: a gate cannot send any other key");
        } else if is_scan_key_code(key) {
            problems.add("key", "starts with JWO and has 49 characters or more: it would be read as a Scan Key Code");
        }
        Some(hash_key.identity_key(key))
    });
    let link = link(&mut problems, row.shopper.as_deref(), row.device.as_deref(), row.revoked);
    let link = link.map(|link| Link { channel: row.channel.map(|word| word.0), ..link });
    problems.finish(digest.zip(link))
}

/// Checks a recognition token, and returns its digest.
pub(crate) fn recognition_token(row: &RecognitionTokenRow, hash_key: &HashKey) -> Checked<(Digest, Link)> {
    let mut problems = Problems::default();
    let digest = problems.digest("token", row.token.as_deref(), row.digest.as_deref(), |problems, token| {
        let token = RecognitionToken::parse(token).map_err(|error| problems.add("token", error.to_string())).ok()?;
        Some(hash_key.recognition_token(&token))
    });
    let link = link(&mut problems, row.shopper.as_deref(), row.device.as_deref(), row.revoked);
    problems.finish(digest.zip(link))
}

/// Checks a customer, and returns its digest. Issuer and subject are not stored, so they may contain any characters.
pub(crate) fn customer(row: &CustomerRow, hash_key: &HashKey) -> Checked<(Digest, VisitorId)> {
    let mut problems = Problems::default();
    let digest = match (&row.issuer, &row.subject, &row.digest) {
        (None, None, Some(digest)) => problems.given_digest(digest),
        (.., Some(_)) => problems.both("issuer and the subject"),
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

pub(super) fn device(text: &str) -> Checked<DeviceId> {
    let mut problems = Problems::default();
    let device = problems.id("device", text, DeviceId::parse);
    problems.finish(device)
}

fn link(problems: &mut Problems, shopper: Option<&str>, device: Option<&str>, revoked: bool) -> Option<Link> {
    if shopper.is_none() && !revoked {
        problems.add("shopper", "is missing: only a revoked key or token may have no shopper");
    }
    let shopper = shopper.map(|shopper| problems.id("shopper", shopper, VisitorId::parse));
    let device = device.map(|device| problems.id("device", device, DeviceId::parse));
    Some(Link { shopper: shopper.flatten(), device: device.flatten(), channel: None, revoked })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    /// The names of all members, from the message about an unknown one.
    fn members<T: DeserializeOwned>() -> Vec<String> {
        let error = serde_json::from_value::<T>(json!({ "?": 0 })).err().expect("an unknown member").to_string();
        error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_member_has_a_column() {
        let rows = [
            members::<StoreRow>(),
            members::<ShopperRow>(),
            members::<IdentityKeyRow>(),
            members::<RecognitionTokenRow>(),
            members::<CustomerRow>(),
        ];
        let payment_method = members::<PaymentMethodRow>();
        let within = payment_method.iter().map(|name| format!("paymentMethod.{name}"));
        let all: BTreeSet<String> =
            rows.into_iter().flatten().filter(|name| name != "paymentMethod").chain(within).collect();
        let columns = COLUMNS.iter().map(|(column, cell)| match cell {
            Cell::Within(object, name) => format!("{object}.{name}"),
            _ => (*column).to_owned(),
        });
        assert_eq!(columns.collect::<BTreeSet<_>>(), all);
    }
}
