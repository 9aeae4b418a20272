//! The first pass over a file. It checks that every row is valid, that there are no duplicates, and that every shopper
//! and device that a row names is in the file or in the directory.
//!
//! Rows are not kept in memory, only an [`EntityHash`] of each. A reference to a shopper that
//! has not appeared in the file yet is kept with the directory's answer, because the shopper may follow later in the
//! file.

use super::changes::Row;
use super::position::Position;
use super::seen::{Entity, EntityHash, SeenEntities};
use super::{BadRows, PAGE, TransferError};
use crate::directory::{Change, Directory, Kind, Link, Problem};
use crate::domain::ids::{DeviceId, VisitorId};

const NO_SHOPPER: &str = "no such shopper in the file or the directory";
const NO_DEVICE: &str = "not one of that shopper's devices";

pub(super) struct Check<'d> {
    directory: &'d Directory,
    seen: SeenEntities,
    unresolved: Vec<Reference>,
    deferred: Vec<DeferredReference>,
    bad: BadRows,
    warnings: BadRows,
    rows: u64,
    links_seen: bool,
    is_in_order: bool,
}

/// A reference to a shopper that is not checked yet.
struct Reference {
    position: Position,
    row_kind: &'static str,
    shopper: VisitorId,
    device: Option<DeviceId>,
}

/// A reference that can be decided only at the end of the file.
struct DeferredReference {
    position: Position,
    row_kind: &'static str,
    shopper: EntityHash,
    device: Option<EntityHash>,
    /// The problem according to the directory. It applies if the shopper is not in the file.
    problem_in_directory: Option<ReferenceProblem>,
}

#[derive(Clone, Copy)]
enum ReferenceProblem {
    Shopper,
    Device,
}

/// The result of the check.
pub(super) struct Checked {
    pub(super) bad: BadRows,
    /// Rows that are valid but may contain a mistake.
    pub(super) warnings: BadRows,
    pub(super) rows: u64,
    /// Whether all shoppers come before the rows that name them, so that one pass can import the file.
    pub(super) is_in_order: bool,
}

impl<'d> Check<'d> {
    pub(super) fn new(directory: &'d Directory) -> Self {
        Self {
            directory,
            seen: SeenEntities::default(),
            unresolved: Vec::new(),
            deferred: Vec::new(),
            bad: BadRows::default(),
            warnings: BadRows::default(),
            rows: 0,
            links_seen: false,
            is_in_order: true,
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) async fn row(&mut self, Row { position, change, warnings }: Row) -> Result<(), TransferError> {
        self.rows = self.rows.saturating_add(1);
        let change = match change {
            Ok(change) => change,
            Err(problems) => {
                self.bad.add(position, problems);
                return Ok(());
            }
        };
        if !warnings.is_empty() {
            self.warnings.add(position, warnings);
        }
        let row_kind = kind_of(&change);
        if let Some(first) = self.seen.add(&change, position) {
            let id = if is_link(&change) { "" } else { ".id" };
            self.bad.add(position, vec![Problem::new(format!("{row_kind}{id}"), format!("duplicate of {first}"))]);
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
            self.unresolved.push(Reference { position, row_kind, shopper, device });
        }
        if self.unresolved.len() >= PAGE {
            self.resolve().await?;
        }
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<Checked, TransferError> {
        self.resolve().await?;
        for reference in std::mem::take(&mut self.deferred) {
            let problem = if self.seen.has(reference.shopper) {
                self.problem_in_file(reference.device)
            } else {
                reference.problem_in_directory
            };
            self.refuse(reference.position, reference.row_kind, problem);
        }
        self.bad.sort();
        self.warnings.sort();
        Ok(Checked { bad: self.bad, warnings: self.warnings, rows: self.rows, is_in_order: self.is_in_order })
    }

    /// Checks the collected references against the file, and looks up the other shoppers in the directory.
    async fn resolve(&mut self) -> Result<(), TransferError> {
        let mut not_in_file = Vec::new();
        for reference in std::mem::take(&mut self.unresolved) {
            let Reference { position, row_kind, shopper, device } = &reference;
            if self.seen.has(self.seen.hash(&Entity::Shopper(shopper))) {
                let device = device.as_ref().map(|device| self.seen.hash(&Entity::Device(shopper, device)));
                self.refuse(*position, row_kind, self.problem_in_file(device));
            } else {
                not_in_file.push(reference);
            }
        }
        let existing =
            self.directory.devices(not_in_file.iter().map(|reference| reference.shopper.clone()).collect()).await?;
        for Reference { position, row_kind, shopper, device } in not_in_file {
            let problem_in_directory = match (existing.get(&shopper), &device) {
                (None, _) => Some(ReferenceProblem::Shopper),
                (Some(devices), Some(device)) if !devices.contains(device) => Some(ReferenceProblem::Device),
                (Some(_), None) => continue,
                (Some(_), Some(_)) => None,
            };
            let device = device.map(|device| self.seen.hash(&Entity::Device(&shopper, &device)));
            self.deferred.push(DeferredReference {
                position,
                row_kind,
                shopper: self.seen.hash(&Entity::Shopper(&shopper)),
                device,
                problem_in_directory,
            });
        }
        Ok(())
    }

    /// The problem of a reference to a shopper that is in the file.
    fn problem_in_file(&self, device: Option<EntityHash>) -> Option<ReferenceProblem> {
        device.is_some_and(|device| !self.seen.has(device)).then_some(ReferenceProblem::Device)
    }

    fn refuse(&mut self, position: Position, row_kind: &str, problem: Option<ReferenceProblem>) {
        let (field, message) = match problem {
            None => return,
            Some(ReferenceProblem::Shopper) => ("shopper", NO_SHOPPER),
            Some(ReferenceProblem::Device) => ("device", NO_DEVICE),
        };
        self.bad.add(position, vec![Problem::new(field, message).within(row_kind)]);
    }
}

/// The member that a file uses for this kind of row.
pub(super) fn kind_of(change: &Change) -> &'static str {
    match change {
        Change::PutStore(_) => "store",
        Change::PutShopper(_) => "shopper",
        Change::PutRegistration(Kind::IdentityKey, ..) => "identityKey",
        Change::PutRegistration(Kind::RecognitionToken, ..) => "recognitionToken",
        Change::LinkCustomer(..) => "customer",
        _ => "row",
    }
}

/// Whether the row names a shopper, which must exist first.
pub(super) fn is_link(change: &Change) -> bool {
    matches!(change, Change::PutRegistration(..) | Change::LinkCustomer(..))
}
