//! Writes the directory to a file, one page at a time, in the order in which it can be imported: stores, shoppers,
//! keys, tokens, customers.
//!
//! The directory may change meanwhile. Rows that name a shopper that is not in the file are left out, and so is a
//! device that is not in the file; so every export can be imported.

use std::io::{self, Write};

use super::csv::CsvWriter;
use super::position::Position;
use super::record::{Header, Record};
use super::seen::{Entity, SeenEntities};
use super::{Counts, Format, OnProgress, PAGE, Phase, Progress, TransferError, jsonl};
use crate::directory::{CustomerRow, Directory, IdentityKeyRow, Kind, Link, RecognitionTokenRow, ShopperRow, StoreRow};
use crate::domain::ids::VisitorId;

/// Writes the whole directory. Returns `None` if `on_progress` has stopped it.
///
/// # Errors
/// When the directory cannot be read or the file cannot be written.
pub(crate) async fn export(
    directory: &Directory,
    format: Format,
    out: &mut dyn Write,
    on_progress: OnProgress<'_>,
) -> Result<Option<Counts>, TransferError> {
    let mut file = Out::new(format, out)?;
    let (mut counts, mut written) = (Counts::default(), WrittenShoppers::default());
    file.write(&Record::Export(Header::new(directory.hash_key())))?;

    let mut after = None;
    loop {
        let page = directory.stores(after.take(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        for store in &page {
            file.write(&Record::Store(StoreRow::from(store)))?;
        }
        counts.stores = counts.stores.saturating_add(page.len() as u64);
        if on_progress(progress(&counts)).is_break() {
            return Ok(None);
        }
    }
    let mut after = None;
    loop {
        let page = directory.shoppers(after.take(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.shopper.visitor.id.clone());
        for profile in &page {
            file.write(&Record::Shopper(ShopperRow::from(profile)))?;
            written.0.add_shopper(profile, Position::Line(0));
        }
        counts.shoppers = counts.shoppers.saturating_add(page.len() as u64);
        if on_progress(progress(&counts)).is_break() {
            return Ok(None);
        }
    }
    for kind in [Kind::IdentityKey, Kind::RecognitionToken] {
        let mut after = None;
        loop {
            let page = directory.registrations(kind, after.take(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (digest, link) in page {
                let Some(link) = written.link(link) else { continue };
                file.write(&match kind {
                    Kind::IdentityKey => Record::IdentityKey(IdentityKeyRow::from_stored(&digest, &link)),
                    Kind::RecognitionToken => {
                        Record::RecognitionToken(RecognitionTokenRow::from_stored(&digest, &link))
                    }
                })?;
                let count = match kind {
                    Kind::IdentityKey => &mut counts.identity_keys,
                    Kind::RecognitionToken => &mut counts.recognition_tokens,
                };
                *count = count.saturating_add(1);
            }
            if on_progress(progress(&counts)).is_break() {
                return Ok(None);
            }
        }
    }
    let mut after = None;
    loop {
        let page = directory.customers(after.take(), PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        for (digest, shopper) in page.iter().filter(|(_, shopper)| written.has(shopper)) {
            file.write(&Record::Customer(CustomerRow::from_stored(digest, shopper)))?;
            counts.customers = counts.customers.saturating_add(1);
        }
        if on_progress(progress(&counts)).is_break() {
            return Ok(None);
        }
    }
    file.flush()?;
    Ok(Some(counts))
}

fn progress(counts: &Counts) -> Progress {
    Progress { phase: Phase::Export, bytes: 0, total: 0, rows: counts.total() }
}

/// The shoppers in the file, and their devices.
#[derive(Default)]
struct WrittenShoppers(SeenEntities);

impl WrittenShoppers {
    fn has(&self, shopper: &VisitorId) -> bool {
        self.0.has(self.0.hash(&Entity::Shopper(shopper)))
    }

    /// The link without a device that is not in the file; `None` if its shopper is not in the file.
    fn link(&self, mut link: Link) -> Option<Link> {
        if let Some(shopper) = &link.shopper {
            if !self.has(shopper) {
                return None;
            }
            link.device = link.device.filter(|device| self.0.has(self.0.hash(&Entity::Device(shopper, device))));
        }
        Some(link)
    }
}

/// The output, by format.
enum Out<'o> {
    JsonLines(&'o mut dyn Write),
    Csv(Box<CsvWriter<&'o mut dyn Write>>),
}

impl<'o> Out<'o> {
    fn new(format: Format, out: &'o mut dyn Write) -> io::Result<Self> {
        Ok(match format {
            Format::JsonLines => Self::JsonLines(out),
            Format::Csv => Self::Csv(Box::new(CsvWriter::new(out)?)),
        })
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        match self {
            Self::JsonLines(out) => jsonl::write(out, record),
            Self::Csv(out) => out.write(record),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::JsonLines(out) => out.flush(),
            Self::Csv(out) => out.flush(),
        }
    }
}
