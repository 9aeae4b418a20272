//! The first reading of a file: is every row sound, does none stand there twice, and is everybody whom a key, token or customer names in
//! the file, wherever it may be, or in the directory?
//!
//! Rows are not kept. Of what they put, a [`Name`](super::names::Name) is; of a row that names a shopper who has not been seen in the
//! file yet, what the directory says of them, since the file may say otherwise further down.

use super::changes::Row;
use super::names::{Name, Named, Names};
use super::spot::Spot;
use super::{BadRows, PAGE, TransferError};
use crate::directory::{Change, Directory, Kind, Link, Problem};
use crate::domain::ids::{DeviceId, VisitorId};

const NOBODY: &str = "no such shopper in the file or the directory";
const NO_DEVICE: &str = "not one of that shopper's devices";

pub(super) struct Check<'d> {
    directory: &'d Directory,
    names: Names,
    unasked: Vec<Unasked>,
    open: Vec<Open>,
    bad: BadRows,
    doubtful: BadRows,
    rows: u64,
    links_seen: bool,
    is_in_order: bool,
}

/// A reference that the directory is to be asked about.
struct Unasked {
    spot: Spot,
    place: &'static str,
    shopper: VisitorId,
    device: Option<DeviceId>,
}

/// A reference that is settled once the whole file is known.
struct Open {
    spot: Spot,
    place: &'static str,
    shopper: Name,
    device: Option<Name>,
    /// What is wrong with it, going by the directory: it counts if the file does not have the shopper.
    otherwise: Option<Wrong>,
}

#[derive(Clone, Copy)]
enum Wrong {
    Shopper,
    Device,
}

/// What a file was found to be.
pub(super) struct Checked {
    pub(super) bad: BadRows,
    /// Rows that are imported, and may not be meant.
    pub(super) doubtful: BadRows,
    pub(super) rows: u64,
    /// Whether what names shoppers comes after all of them, so that it can be brought in as it stands.
    pub(super) is_in_order: bool,
}

impl<'d> Check<'d> {
    pub(super) fn new(directory: &'d Directory) -> Self {
        Self {
            directory,
            names: Names::default(),
            unasked: Vec::new(),
            open: Vec::new(),
            bad: BadRows::default(),
            doubtful: BadRows::default(),
            rows: 0,
            links_seen: false,
            is_in_order: true,
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) async fn row(&mut self, Row { spot, change, doubts }: Row) -> Result<(), TransferError> {
        self.rows = self.rows.saturating_add(1);
        let change = match change {
            Ok(change) => change,
            Err(problems) => {
                self.bad.add(spot, problems);
                return Ok(());
            }
        };
        if !doubts.is_empty() {
            self.doubtful.add(spot, doubts);
        }
        let place = place(&change);
        if let Some(first) = self.names.note(&change, spot) {
            let id = if is_link(&change) { "" } else { ".id" };
            self.bad.add(spot, vec![Problem::new(format!("{place}{id}"), format!("stands on {first} already"))]);
            return Ok(());
        }
        self.links_seen |= is_link(&change);
        let (shopper, device) = match change {
            Change::PutRegistration(_, _, Link { shopper, device, .. }) => (shopper, device),
            Change::LinkCustomer(_, shopper) => (Some(shopper), None),
            Change::PutShopper(_) if self.links_seen => {
                self.is_in_order = false;
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Some(shopper) = shopper {
            self.unasked.push(Unasked { spot, place, shopper, device });
        }
        if self.unasked.len() >= PAGE {
            self.ask().await?;
        }
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<Checked, TransferError> {
        self.ask().await?;
        for open in std::mem::take(&mut self.open) {
            let wrong = if self.names.has(open.shopper) { self.wrong_in_file(open.device) } else { open.otherwise };
            self.refuse(open.spot, open.place, wrong);
        }
        self.bad.sort();
        self.doubtful.sort();
        Ok(Checked { bad: self.bad, doubtful: self.doubtful, rows: self.rows, is_in_order: self.is_in_order })
    }

    /// Settles what the file settles, and asks the directory about the rest.
    async fn ask(&mut self) -> Result<(), TransferError> {
        let mut strangers = Vec::new();
        for reference in std::mem::take(&mut self.unasked) {
            let Unasked { spot, place, shopper, device } = &reference;
            if self.names.has(self.names.name(&Named::Shopper(shopper))) {
                let device = device.as_ref().map(|device| self.names.name(&Named::Device(shopper, device)));
                self.refuse(*spot, place, self.wrong_in_file(device));
            } else {
                strangers.push(reference);
            }
        }
        let known =
            self.directory.devices(strangers.iter().map(|reference| reference.shopper.clone()).collect()).await?;
        for Unasked { spot, place, shopper, device } in strangers {
            let otherwise = match (known.get(&shopper), &device) {
                (None, _) => Some(Wrong::Shopper),
                (Some(devices), Some(device)) if !devices.contains(device) => Some(Wrong::Device),
                (Some(_), None) => continue,
                (Some(_), Some(_)) => None,
            };
            let device = device.map(|device| self.names.name(&Named::Device(&shopper, &device)));
            self.open.push(Open {
                spot,
                place,
                shopper: self.names.name(&Named::Shopper(&shopper)),
                device,
                otherwise,
            });
        }
        Ok(())
    }

    /// What is wrong with a reference to a shopper who stands in the file.
    fn wrong_in_file(&self, device: Option<Name>) -> Option<Wrong> {
        device.is_some_and(|device| !self.names.has(device)).then_some(Wrong::Device)
    }

    fn refuse(&mut self, spot: Spot, place: &str, wrong: Option<Wrong>) {
        let (field, what) = match wrong {
            None => return,
            Some(Wrong::Shopper) => ("shopper", NOBODY),
            Some(Wrong::Device) => ("device", NO_DEVICE),
        };
        self.bad.add(spot, vec![Problem::new(field, what).within(place)]);
    }
}

/// What a file calls the row.
pub(super) fn place(change: &Change) -> &'static str {
    match change {
        Change::PutStore(_) => "store",
        Change::PutShopper(_) => "shopper",
        Change::PutRegistration(Kind::IdentityKey, ..) => "identityKey",
        Change::PutRegistration(Kind::RecognitionToken, ..) => "recognitionToken",
        Change::LinkCustomer(..) => "customer",
        _ => "row",
    }
}

/// Whether it stands for a shopper, who must be there first.
pub(super) fn is_link(change: &Change) -> bool {
    matches!(change, Change::PutRegistration(..) | Change::LinkCustomer(..))
}
