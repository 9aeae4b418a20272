//! Turns the rows of a directory file into a directory, or into the list of everything that is wrong with them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::file::{
    DirectoryFile, FaultRow, IdentityKeyRow, Loaded, PaymentMethodRow, Problem, RecognitionTokenRow, ShopperRow,
    StoreRow,
};
use super::{Fault, MemoryDirectory, Registration};
use crate::digest::{Digest, HashKey};
use crate::domain::identity_key::{MAX_DECODED, is_printable, is_scan_key_code};
use crate::domain::ids::{DeviceId, PaymentSourceId, StoreId, TextIdError, VisitorId};
use crate::domain::scan::KeyChannel;
use crate::domain::scan_key_code::RecognitionToken;
use crate::domain::store::{ScanKeyWindow, Store};
use crate::domain::visitor::{Holder, Month, PaymentMethod, Shopper, Visitor};

/// A check under way: what was found sound so far, and what was not.
pub(super) struct Check<'a> {
    hash_key: &'a HashKey,
    stores: HashMap<StoreId, Arc<Store>>,
    shoppers: HashMap<String, Known>,
    registrations: HashMap<Digest, Registration>,
    problems: Vec<Problem>,
}

struct Known {
    shopper: Arc<Shopper>,
    devices: HashSet<String>,
}

/// The part of a row that says whom a key or token stands for.
struct Link<'a> {
    place: &'a str,
    shopper: Option<&'a str>,
    device: Option<&'a str>,
    revoked: bool,
    channel: Option<KeyChannel>,
}

impl<'a> Check<'a> {
    pub(super) fn new(hash_key: &'a HashKey) -> Self {
        Self {
            hash_key,
            stores: HashMap::new(),
            shoppers: HashMap::new(),
            registrations: HashMap::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn run(mut self, file: DirectoryFile, may_have_faults: bool) -> Result<Loaded, Vec<Problem>> {
        for (place, row) in places("stores", file.stores) {
            self.store(&place, &row);
        }
        for (place, row) in places("shoppers", file.shoppers) {
            self.shopper(&place, row);
        }
        for (place, row) in places("identityKeys", file.identity_keys) {
            self.identity_key(&place, &row);
        }
        let recognition_tokens = file.recognition_tokens.len();
        for (place, row) in places("recognitionTokens", file.recognition_tokens) {
            self.recognition_token(&place, &row);
        }
        if self.stores.is_empty() && self.problems.is_empty() {
            self.problem("stores", "is empty: without a store every scan is refused");
        }
        if !may_have_faults && !file.faults.is_empty() {
            self.problem("faults", "only the demo may be told to fail");
        }
        let faults = file.faults.iter().map(|row| self.fault(row)).collect();
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let directory = MemoryDirectory {
            hash_key: self.hash_key.clone(),
            stores: self.stores,
            registrations: self.registrations,
            recognition_tokens,
        };
        Ok(Loaded { directory: Arc::new(directory), faults })
    }

    fn store(&mut self, place: &str, row: &StoreRow) {
        let seconds = row.scan_key_window_seconds;
        let window = seconds.map_or(Some(ScanKeyWindow::DEFAULT), ScanKeyWindow::from_seconds);
        if window.is_none() {
            self.problem(&format!("{place}.scanKeyWindowSeconds"), "must be 30 to 90");
        }
        let Some(id) = self.id(place, "id", &row.id, StoreId::parse) else { return };
        let store = Store {
            id: id.clone(),
            enabled: row.enabled,
            takes_cash: row.takes_cash,
            default_gate_decision: row.default_gate_decision,
            scan_key_window: window.unwrap_or(ScanKeyWindow::DEFAULT),
            exit_policy: row.exit_policy,
        };
        if self.stores.insert(id, Arc::new(store)).is_some() {
            self.problem(&format!("{place}.id"), "names a store that stands further up already");
        }
    }

    fn shopper(&mut self, place: &str, row: ShopperRow) {
        let payment_method =
            row.payment_method.and_then(|method| self.payment_method(&format!("{place}.paymentMethod"), &method));
        for (number, device) in row.devices.iter().enumerate() {
            self.id(place, &format!("devices[{number}]"), device, DeviceId::parse);
        }
        let Some(id) = self.id(place, "id", &row.id, VisitorId::parse) else { return };
        let visitor = Visitor { id, kind: row.kind };
        let shopper = Arc::new(Shopper { visitor, account: row.account, payment_method });
        let known = Known { shopper, devices: row.devices.into_iter().collect() };
        if self.shoppers.insert(row.id, known).is_some() {
            self.problem(&format!("{place}.id"), "names a shopper who stands further up already");
        }
    }

    fn payment_method(&mut self, place: &str, row: &PaymentMethodRow) -> Option<PaymentMethod> {
        let id = match &row.id {
            Some(id) => Some(self.id(place, "id", id, PaymentSourceId::parse)?),
            None => None,
        };
        let last_month = Month::parse(&row.last_month);
        if last_month.is_none() {
            self.problem(&format!("{place}.lastMonth"), "must be a month such as 2099-12");
        }
        Some(PaymentMethod { id, last_month: last_month? })
    }

    fn identity_key(&mut self, place: &str, row: &IdentityKeyRow) {
        let key_place = format!("{place}.key");
        if row.key.is_empty() || row.key.len() > MAX_DECODED || !is_printable(&row.key) {
            self.problem(
                &key_place,
                "must be 1 to 750 printable ASCII characters: no reader could present it otherwise",
            );
        } else if is_scan_key_code(&row.key) {
            self.problem(
                &key_place,
                "starts with JWO and has 49 characters or more: it would be read as a Scan Key Code",
            );
        }
        let (shopper, device) = (row.shopper.as_deref(), row.device.as_deref());
        let link = Link { place, shopper, device, revoked: row.revoked, channel: row.channel };
        let digest = self.hash_key.identity_key(&row.key);
        self.register(&link, "key", digest);
    }

    fn recognition_token(&mut self, place: &str, row: &RecognitionTokenRow) {
        let (shopper, device) = (row.shopper.as_deref(), row.device.as_deref());
        let link = Link { place, shopper, device, revoked: row.revoked, channel: None };
        match RecognitionToken::parse(&row.token) {
            Ok(token) => self.register(&link, "token", self.hash_key.recognition_token(&token)),
            Err(error) => self.problem(&format!("{place}.token"), &error.to_string()),
        }
    }

    fn register(&mut self, link: &Link<'_>, field: &str, digest: Digest) {
        let Some(registration) = self.registration(link) else { return };
        if self.registrations.insert(digest, registration).is_some() {
            self.problem(&format!("{}.{field}", link.place), "stands further up already");
        }
    }

    fn registration(&mut self, link: &Link<'_>) -> Option<Registration> {
        let Some(name) = link.shopper else {
            if !link.revoked {
                self.problem(
                    &format!("{}.shopper", link.place),
                    "is missing: only what is revoked may belong to nobody",
                );
                return None;
            }
            return Some(Registration::Revoked);
        };
        let Some(known) = self.shoppers.get(name) else {
            self.problem(&format!("{}.shopper", link.place), "names nobody among the shoppers");
            return None;
        };
        let shopper = Arc::clone(&known.shopper);
        if link.device.is_some_and(|device| !known.devices.contains(device)) {
            self.problem(&format!("{}.device", link.place), "is none of that shopper's devices");
            return None;
        }
        if link.revoked {
            return Some(Registration::Revoked);
        }
        let device = link.device.and_then(|device| DeviceId::parse(device).ok());
        Some(Registration::Active { holder: Holder { shopper, device }, channel: link.channel })
    }

    fn fault(&self, row: &FaultRow) -> (Digest, Fault) {
        (self.hash_key.identity_key(&row.key), row.fault)
    }

    fn id<T>(
        &mut self,
        place: &str,
        field: &str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, TextIdError>,
    ) -> Option<T> {
        parse(text).map_err(|error| self.problem(&format!("{place}.{field}"), &error.to_string())).ok()
    }

    fn problem(&mut self, place: &str, what: &str) {
        self.problems.push(Problem { place: place.to_owned(), what: what.to_owned() });
    }
}

/// Each row with its place, such as `stores[0]`.
fn places<T>(list: &'static str, rows: Vec<T>) -> impl Iterator<Item = (String, T)> {
    rows.into_iter().enumerate().map(move |(number, row)| (format!("{list}[{number}]"), row))
}
