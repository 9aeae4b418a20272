//! Writes the directory to a file, one page at a time, in the order in which it can be imported: stores, shoppers,
//! keys, tokens, customers.
//!
//! The directory may change meanwhile. Rows that name a shopper that is not in the file are left out, and so is a
//! device that is not in the file; so every export can be imported.

use std::io::{self, Write};

use super::check::{Entity, SeenEntities};
use super::record::{Header, Position, Record};
use super::{Counts, Format, OnProgress, PAGE, Phase, Progress, TransferError, csv, json};
use crate::digest::Digest;
use crate::directory::{
    CustomerRow, Directory, DirectoryError, IdentityKeyRow, Kind, Link, Profile, RecognitionTokenRow, ShopperRow,
    StoreRow,
};
use crate::domain::ids::VisitorId;
use crate::domain::store::Store;

/// Writes the whole directory. Returns `None` if `on_progress` has stopped it.
pub(crate) async fn export(
    directory: &Directory,
    format: Format,
    out: &mut dyn Write,
    on_progress: OnProgress<'_>,
) -> Result<Option<Counts>, TransferError> {
    if let Format::Csv = format {
        csv::write_header(out)?;
    }
    let mut export = Export { out, format, counts: Counts::default(), on_progress, is_stopped: false };
    export.write(&Record::Export(Header::new(directory.hash_key())))?;

    let list = async |after| directory.stores(after, PAGE).await;
    let record = |store: Store| Some(Record::Store(StoreRow::from(&store)));
    export.rows(list, |store| store.id.clone(), record).await?;

    let mut written = SeenEntities::default();
    let list = async |after| directory.shoppers(after, PAGE).await;
    let record = |profile: Profile| {
        written.add_shopper(&profile, Position::Line(0));
        Some(Record::Shopper(ShopperRow::from(&profile)))
    };
    export.rows(list, |profile| profile.shopper.visitor.id.clone(), record).await?;

    for kind in [Kind::IdentityKey, Kind::RecognitionToken] {
        let list = async |after| directory.registrations(kind, after, PAGE).await;
        let record = |(digest, link): (Digest, Link)| {
            let link = in_file(&written, link)?;
            Some(match kind {
                Kind::IdentityKey => Record::IdentityKey(IdentityKeyRow::from_stored(&digest, &link)),
                Kind::RecognitionToken => Record::RecognitionToken(RecognitionTokenRow::from_stored(&digest, &link)),
            })
        };
        export.rows(list, |(digest, _)| *digest, record).await?;
    }

    let list = async |after| directory.customers(after, PAGE).await;
    let record = |(digest, shopper): (Digest, VisitorId)| {
        has(&written, &shopper).then(|| Record::Customer(CustomerRow::from_stored(&digest, &shopper)))
    };
    export.rows(list, |(digest, _)| *digest, record).await?;

    export.out.flush()?;
    Ok((!export.is_stopped).then_some(export.counts))
}

struct Export<'o> {
    out: &'o mut dyn Write,
    format: Format,
    counts: Counts,
    on_progress: OnProgress<'o>,
    /// Whether `on_progress` has stopped the export.
    is_stopped: bool,
}

impl Export<'_> {
    /// Writes the rows of one kind, page by page, unless the export is stopped.
    async fn rows<R, K>(
        &mut self,
        list_after: impl AsyncFn(Option<K>) -> Result<Vec<R>, DirectoryError>,
        key: impl Fn(&R) -> K,
        mut record: impl FnMut(R) -> Option<Record>,
    ) -> Result<(), TransferError> {
        let mut after = None;
        while !self.is_stopped {
            let page = list_after(after).await?;
            let Some(last) = page.last() else { break };
            after = Some(key(last));
            for record in page.into_iter().filter_map(&mut record) {
                self.write(&record)?;
                record.kind().into_iter().for_each(|kind| self.counts.add(kind));
            }
            let progress = Progress { phase: Phase::Export, bytes: 0, total: 0, rows: self.counts.total() };
            self.is_stopped = (self.on_progress)(progress).is_break();
        }
        Ok(())
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        match self.format {
            Format::JsonLines => json::write(self.out, record),
            Format::Csv => csv::write(self.out, record),
        }
    }
}

fn has(written: &SeenEntities, shopper: &VisitorId) -> bool {
    written.has(written.hash(&Entity::Shopper(shopper)))
}

/// The link without a device that is not in the file; `None` if its shopper is not in the file.
fn in_file(written: &SeenEntities, mut link: Link) -> Option<Link> {
    if let Some(shopper) = &link.shopper {
        if !has(written, shopper) {
            return None;
        }
        link.device = link.device.filter(|device| written.has(written.hash(&Entity::Device(shopper, device))));
    }
    Some(link)
}
