//! The first pass over a file. It checks that every row is valid, that there are no duplicates, and that every shopper
//! and device that a row names is in the file or in the directory.
//!
//! Rows are not kept in memory, only an [`EntityHash`] of each. A reference to a shopper that has not appeared in the
//! file yet is kept with the directory's answer, because the shopper may follow later in the file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, RandomState};

use super::record::{Position, Row, RowKind};
use super::{PAGE, TransferError};
use crate::digest::Digest;
use crate::directory::{Change, Directory, Kind, Link, Problem, Profile};
use crate::domain::ids::{DeviceId, StoreId, VisitorId};

/// The number of rows whose messages are kept.
const SHOWN: usize = 20;

/// A problem of a reference: the member, and the message.
type ReferenceProblem = (&'static str, &'static str);

const NO_SHOPPER: ReferenceProblem = ("shopper", "no such shopper in the file or the directory");
const NO_DEVICE: ReferenceProblem = ("device", "not one of that shopper's devices");

pub(super) struct Check<'d> {
    directory: &'d Directory,
    seen: SeenEntities,
    /// References to shoppers that the directory has not been asked for yet.
    unresolved: Vec<(Reference, VisitorId, Option<DeviceId>)>,
    /// References that can be decided only at the end of the file, with their problem according to the directory. It
    /// applies if the shopper is not in the file.
    deferred: Vec<(Reference, Option<ReferenceProblem>)>,
    has_links: bool,
    result: Checked,
}

/// A row that names a shopper.
struct Reference {
    position: Position,
    kind: RowKind,
    shopper: EntityHash,
    device: Option<EntityHash>,
}

/// The result of the check.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) bad: BadRows,
    /// Rows that are valid but may contain a mistake.
    pub(super) warnings: BadRows,
    pub(super) rows: u64,
    /// Whether a shopper comes after rows that name shoppers, so that importing the file takes two passes.
    pub(super) is_out_of_order: bool,
}

impl<'d> Check<'d> {
    pub(super) fn new(directory: &'d Directory) -> Self {
        Self {
            directory,
            seen: SeenEntities::default(),
            unresolved: Vec::new(),
            deferred: Vec::new(),
            has_links: false,
            result: Checked::default(),
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.result.rows
    }

    pub(super) async fn row(&mut self, Row { position, change, warnings }: Row) -> Result<(), TransferError> {
        self.result.rows = self.result.rows.saturating_add(1);
        let (kind, change) = match change {
            Ok(change) => change,
            Err(problems) => {
                self.result.bad.add(position, problems);
                return Ok(());
            }
        };
        if !warnings.is_empty() {
            self.result.warnings.add(position, warnings);
        }
        if let Some(first) = self.seen.add(&change, position) {
            let path = format!("{}{}", kind.name(), if kind.is_link() { "" } else { ".id" });
            self.result.bad.add(position, vec![Problem::new(path, format!("duplicate of {first}"))]);
            return Ok(());
        }
        self.has_links |= kind.is_link();
        self.result.is_out_of_order |= self.has_links && kind == RowKind::Shopper;
        let (shopper, device) = match change {
            Change::PutRegistration(_, _, Link { shopper: Some(shopper), device, .. }) => (shopper, device),
            Change::LinkCustomer(_, shopper) => (shopper, None),
            _ => return Ok(()),
        };
        let device_hash = device.as_ref().map(|device| self.seen.hash(&Entity::Device(&shopper, device)));
        let reference =
            Reference { position, kind, shopper: self.seen.hash(&Entity::Shopper(&shopper)), device: device_hash };
        if self.seen.has(reference.shopper) {
            self.refuse(&reference, self.problem_in_file(&reference));
        } else {
            self.unresolved.push((reference, shopper, device));
            if self.unresolved.len() >= PAGE {
                self.look_up().await?;
            }
        }
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<Checked, TransferError> {
        self.look_up().await?;
        for (reference, problem_in_directory) in std::mem::take(&mut self.deferred) {
            let is_in_file = self.seen.has(reference.shopper);
            let problem = if is_in_file { self.problem_in_file(&reference) } else { problem_in_directory };
            self.refuse(&reference, problem);
        }
        self.result.bad.sort();
        self.result.warnings.sort();
        Ok(self.result)
    }

    /// Looks up the shoppers of the unresolved references in the directory.
    async fn look_up(&mut self) -> Result<(), TransferError> {
        let unresolved = std::mem::take(&mut self.unresolved);
        let existing =
            self.directory.devices(unresolved.iter().map(|(_, shopper, _)| shopper.clone()).collect()).await?;
        for (reference, shopper, device) in unresolved {
            let problem = match (existing.get(&shopper), &device) {
                (None, _) => Some(NO_SHOPPER),
                (Some(_), None) => continue,
                (Some(devices), Some(device)) => (!devices.contains(device)).then_some(NO_DEVICE),
            };
            self.deferred.push((reference, problem));
        }
        Ok(())
    }

    /// The problem of a reference to a shopper that is in the file.
    fn problem_in_file(&self, reference: &Reference) -> Option<ReferenceProblem> {
        reference.device.is_some_and(|device| !self.seen.has(device)).then_some(NO_DEVICE)
    }

    fn refuse(&mut self, Reference { position, kind, .. }: &Reference, problem: Option<ReferenceProblem>) {
        if let Some((member, message)) = problem {
            self.result.bad.add(*position, vec![Problem::new(member, message).within(kind.name())]);
        }
    }
}

/// An entity that a row defines.
#[derive(Hash)]
pub(super) enum Entity<'a> {
    Store(&'a StoreId),
    Shopper(&'a VisitorId),
    Device(&'a VisitorId, &'a DeviceId),
    Registration(Kind, &'a Digest),
    Customer(&'a Digest),
}

/// Two keyed hashes of an entity. The keys are random, so a collision cannot be constructed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EntityHash([u8; 16]);

/// The entities that a file has defined so far, and their positions. Each is kept as a hash of 128 bits, so that a
/// million rows take a few tens of megabytes.
#[derive(Default)]
pub(super) struct SeenEntities {
    keys: [RandomState; 2],
    positions: HashMap<EntityHash, Position>,
}

impl SeenEntities {
    pub(super) fn hash(&self, entity: &Entity<'_>) -> EntityHash {
        let [high, low] = self.keys.each_ref().map(|key| u128::from(key.hash_one(entity)));
        EntityHash((high << 64 | low).to_le_bytes())
    }

    pub(super) fn has(&self, hash: EntityHash) -> bool {
        self.positions.contains_key(&hash)
    }

    /// Adds a shopper and their devices. Returns the earlier position if the shopper is a duplicate.
    pub(super) fn add_shopper(
        &mut self,
        Profile { shopper, devices }: &Profile,
        position: Position,
    ) -> Option<Position> {
        let id = &shopper.visitor.id;
        let earlier = self.insert(self.hash(&Entity::Shopper(id)), position);
        if earlier.is_none() {
            for device in devices {
                self.positions.insert(self.hash(&Entity::Device(id, device)), position);
            }
        }
        earlier
    }

    fn insert(&mut self, hash: EntityHash, position: Position) -> Option<Position> {
        match self.positions.entry(hash) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(entry) => {
                entry.insert(position);
                None
            }
        }
    }

    /// Adds the entity that a change defines. Returns the earlier position if it is a duplicate.
    pub(super) fn add(&mut self, change: &Change, position: Position) -> Option<Position> {
        let hash = match change {
            Change::PutStore(store) => self.hash(&Entity::Store(&store.id)),
            Change::PutShopper(profile) => return self.add_shopper(profile, position),
            Change::PutRegistration(kind, digest, _) => self.hash(&Entity::Registration(*kind, digest)),
            Change::LinkCustomer(digest, _) => self.hash(&Entity::Customer(digest)),
            _ => return None,
        };
        self.insert(hash, position)
    }
}

/// Rows with problems or warnings: the positions of all of them, and the messages of the first [`SHOWN`].
#[derive(Debug, Default)]
pub(crate) struct BadRows {
    positions: Vec<Position>,
    shown: Vec<(Position, Vec<Problem>)>,
}

impl BadRows {
    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(super) fn add(&mut self, position: Position, problems: Vec<Problem>) {
        self.positions.push(position);
        self.shown.push((position, problems));
        if self.shown.len() > SHOWN.saturating_mul(2) {
            self.sort();
        }
    }

    /// Sorts the rows by position. A row that names an unknown shopper is found last, also if it is at the start of the
    /// file.
    pub(super) fn sort(&mut self) {
        self.positions.sort_unstable();
        self.shown.sort_by_key(|(position, _)| *position);
        self.shown.truncate(SHOWN);
    }

    /// Adds other rows.
    pub(super) fn append(&mut self, others: Self) {
        self.positions.extend(others.positions);
        self.shown.extend(others.shown);
        self.sort();
    }

    /// Whether the row at this position is included. Call [`Self::sort`] before.
    pub(super) fn contains(&self, position: Position) -> bool {
        self.positions.binary_search(&position).is_ok()
    }
}

impl fmt::Display for BadRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problems) in self.shown.iter().take(SHOWN) {
            for problem in problems {
                writeln!(f, "  {position}: {problem}")?;
            }
        }
        match self.positions.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            1 => writeln!(f, "  and 1 more row"),
            more => writeln!(f, "  and {more} more rows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rows_of_the_file_are_shown_in_any_order_of_discovery() {
        let mut bad = BadRows::default();
        for line in (1..=100).rev() {
            bad.add(Position::Line(line), vec![Problem::new("shopper.id", "is empty")]);
        }
        bad.sort();
        let text = bad.to_string();
        assert!(text.starts_with("  line 1: shopper.id: is empty\n  line 2: "), "{text}");
        assert!(text.ends_with("  line 20: shopper.id: is empty\n  and 80 more rows\n"), "{text}");
        assert!(bad.contains(Position::Line(100)) && !bad.contains(Position::Line(101)));
    }
}
