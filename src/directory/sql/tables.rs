//! The directory's tables: their columns, and the conversion between rows and values.

use std::sync::Arc;

use serde::Serialize;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::digest::Digest;
use crate::directory::Registration;
use crate::directory::change::AuditEntry;
use crate::directory::model::{Kind, Link, Profile};
use crate::domain::ids::{DeviceId, PaymentSourceId, StoreId, TextIdError, VisitorId};
use crate::domain::scan::KeyChannel;
use crate::domain::store::{ScanKeyWindow, Store};
use crate::domain::visitor::{Holder, Month, PaymentMethod, Shopper, Visitor};
use crate::domain::words::Words;
use crate::storage::{DatabaseError, corrupt, from_nanos};

type Result<T> = std::result::Result<T, DatabaseError>;

/// A table that rows are written to.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The primary key. Within one statement, rows differ in its last column.
    pub(super) key: &'static [Column],
    pub(super) rest: &'static [Column],
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    Text(&'static str),
    Number(&'static str),
    /// Bytes, written in hexadecimal in JSON.
    Bytes(&'static str),
}

impl Column {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text(name) | Self::Number(name) | Self::Bytes(name) => name,
        }
    }
}

use Column::{Bytes, Number, Text};

pub(super) static STORE: Table = Table {
    name: "store",
    key: &[Text("id")],
    rest: &[
        Number("enabled"),
        Number("takes_cash"),
        Text("default_gate_decision"),
        Number("scan_key_window"),
        Text("exit_policy"),
    ],
};
pub(super) static SHOPPER: Table = Table {
    name: "shopper",
    key: &[Text("id")],
    rest: &[Text("type"), Text("account"), Text("payment_source"), Text("last_month"), Text("devices")],
};
pub(super) static REGISTRATION: Table = Table {
    name: "registration",
    key: &[Text("kind"), Bytes("digest")],
    rest: &[Text("shopper_id"), Text("device_id"), Text("channel"), Number("revoked")],
};
pub(super) static CUSTOMER: Table = Table { name: "customer", key: &[Bytes("digest")], rest: &[Text("shopper_id")] };

/// Selects stores, to be read by [`store`].
macro_rules! select_stores {
    ($rest:literal) => {
        concat!(
            "SELECT id, enabled, takes_cash, default_gate_decision, scan_key_window, exit_policy FROM store ",
            $rest
        )
    };
}

/// The columns of a shopper `s` that [`shopper`] reads.
macro_rules! shopper_columns {
    () => {
        "s.id, s.type, s.account, s.payment_source, s.last_month"
    };
}

/// Selects shoppers `s`, to be read by [`profile`].
macro_rules! select_profiles {
    ($rest:literal) => {
        concat!("SELECT ", $crate::directory::sql::tables::shopper_columns!(), ", s.devices FROM shopper s ", $rest)
    };
}

pub(super) use {select_profiles, select_stores, shopper_columns};

/// Selects a registered key or token with its shopper, to be read by [`found`].
pub(super) const REGISTERED: &str = concat!(
    "SELECT r.shopper_id, r.device_id, r.channel, r.revoked, 0 AS issued, ",
    shopper_columns!(),
    " FROM registration r LEFT JOIN shopper s ON s.id = r.shopper_id WHERE r.digest = $1 AND r.kind = $2"
);
/// Selects an issued token, with the same columns.
pub(super) const ISSUED: &str = concat!(
    "SELECT i.shopper_id, i.device_id, NULL, 0, 1, ",
    shopper_columns!(),
    " FROM issued_token i JOIN shopper s ON s.id = i.shopper_id WHERE i.digest = $1 AND i.expires_at > $3"
);

/// A store as a row of [`STORE`].
pub(super) fn store_row(store: &Store) -> impl Serialize {
    (
        store.id.as_str(),
        u8::from(store.enabled),
        u8::from(store.takes_cash),
        store.default_gate_decision.as_str(),
        store.scan_key_window.seconds(),
        store.exit_policy.as_str(),
    )
}

/// A shopper as a row of [`SHOPPER`].
pub(super) fn shopper_row(Profile { shopper, devices }: &Profile) -> impl Serialize {
    let method = shopper.payment_method.as_ref();
    let devices: Vec<&str> = devices.iter().map(DeviceId::as_str).collect();
    (
        shopper.visitor.id.as_str(),
        shopper.visitor.kind.as_str(),
        shopper.account.as_str(),
        method.and_then(|method| method.id.as_ref()).map(PaymentSourceId::as_str),
        method.map(|method| method.last_valid_month.to_string()),
        serde_json::json!(devices).to_string(),
    )
}

/// A key or token as a row of [`REGISTRATION`].
pub(super) fn registration_row(kind: Kind, digest: &Digest, link: &Link) -> impl Serialize {
    (
        kind.as_str(),
        digest.to_hex(),
        link.shopper.as_ref().map(VisitorId::as_str),
        link.device.as_ref().map(DeviceId::as_str),
        link.channel.map(KeyChannel::as_str),
        u8::from(link.revoked),
    )
}

/// A customer as a row of [`CUSTOMER`].
pub(super) fn customer_row(digest: &Digest, shopper: &VisitorId) -> impl Serialize {
    (digest.to_hex(), shopper.as_str())
}

pub(super) fn store(row: &AnyRow) -> Result<Store> {
    Ok(Store {
        id: required_id(row, "id", StoreId::parse)?,
        enabled: number(row, "enabled")? == 1,
        takes_cash: number(row, "takes_cash")? == 1,
        default_gate_decision: word(row, "default_gate_decision")?,
        scan_key_window: window(row)?,
        exit_policy: word(row, "exit_policy")?,
    })
}

pub(super) fn window(row: &AnyRow) -> Result<ScanKeyWindow> {
    let seconds = number(row, "scan_key_window")?;
    let window = u64::try_from(seconds).ok().and_then(ScanKeyWindow::from_seconds);
    window.ok_or_else(|| corrupt("scan_key_window"))
}

pub(super) fn profile(row: &AnyRow) -> Result<Profile> {
    Ok(Profile { shopper: Arc::new(shopper(row)?), devices: devices(row.try_get("devices")?)? })
}

pub(super) fn devices(json: &str) -> Result<Vec<DeviceId>> {
    let devices: Vec<String> = serde_json::from_str(json).map_err(|_| corrupt("devices"))?;
    devices.iter().map(|device| DeviceId::parse(device).map_err(corrupt)).collect()
}

pub(super) fn visitor(row: &AnyRow) -> Result<VisitorId> {
    required_id(row, "id", VisitorId::parse)
}

fn shopper(row: &AnyRow) -> Result<Shopper> {
    let last_month: Option<&str> = row.try_get("last_month")?;
    let payment_method = match last_month {
        None => None,
        Some(month) => Some(PaymentMethod {
            id: id(row, "payment_source", PaymentSourceId::parse)?,
            last_valid_month: Month::parse(month).ok_or_else(|| corrupt("last_month"))?,
        }),
    };
    Ok(Shopper {
        visitor: Visitor { id: visitor(row)?, kind: word(row, "type")? },
        account: word(row, "account")?,
        payment_method,
    })
}

/// The key or token in a row of [`REGISTERED`] or [`ISSUED`], and whether it is an issued token.
pub(super) fn found(row: &AnyRow) -> Result<(Registration, bool)> {
    let Link { device, channel, revoked, .. } = link(row)?;
    let registration = match revoked {
        true => Registration::Revoked,
        false => Registration::Active { holder: Holder { shopper: Arc::new(shopper(row)?), device }, channel },
    };
    Ok((registration, number(row, "issued")? == 1))
}

pub(super) fn link(row: &AnyRow) -> Result<Link> {
    let channel: Option<&str> = row.try_get("channel")?;
    Ok(Link {
        shopper: id(row, "shopper_id", VisitorId::parse)?,
        device: id(row, "device_id", DeviceId::parse)?,
        channel: channel.map(|word| KeyChannel::parse(word).ok_or_else(|| corrupt("channel"))).transpose()?,
        revoked: number(row, "revoked")? == 1,
    })
}

/// The shopper that a row refers to.
pub(super) fn named_shopper(row: &AnyRow) -> Result<VisitorId> {
    required_id(row, "shopper_id", VisitorId::parse)
}

pub(super) fn digest(row: &AnyRow) -> Result<Digest> {
    let digest: &[u8] = row.try_get("digest")?;
    digest.try_into().map(Digest::from_bytes).map_err(|_| corrupt("digest"))
}

pub(super) fn audit_entry(row: &AnyRow) -> Result<AuditEntry> {
    Ok(AuditEntry {
        id: row.try_get("id")?,
        at: from_nanos(row.try_get("at")?),
        action: row.try_get("action")?,
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
    })
}

pub(super) fn number(row: &AnyRow, column: &str) -> Result<i64> {
    Ok(row.try_get(column)?)
}

fn id<T>(row: &AnyRow, column: &str, parse: fn(&str) -> std::result::Result<T, TextIdError>) -> Result<Option<T>> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(parse).transpose().map_err(corrupt)
}

fn required_id<T>(row: &AnyRow, column: &str, parse: fn(&str) -> std::result::Result<T, TextIdError>) -> Result<T> {
    id(row, column, parse)?.ok_or_else(|| corrupt(column))
}

/// The value of a column that has a word.
fn word<T: Words>(row: &AnyRow, column: &str) -> Result<T> {
    let word: &str = row.try_get(column)?;
    T::from_word(word).ok_or_else(|| corrupt(column))
}
