//! Which of several media types a client prefers, by its `Accept` (RFC 9110, section 12.5.1). Of the parameters, only `q` counts.

use std::cmp::Reverse;

use axum::http::{HeaderMap, header};

/// What the client rates highest of these offers. Between equal ratings, the order of `Accept` decides, then the order of the offers.
/// `None` if the client accepts none of them, or does not say.
pub(super) fn preferred<T: Copy>(headers: &HeaderMap, offers: &[(&str, T)]) -> Option<T> {
    let lines = headers.get_all(header::ACCEPT).into_iter().filter_map(|line| line.to_str().ok());
    let ranges: Vec<Range> = lines.flat_map(|line| line.split(',')).map(Range::parse).collect();
    let rate = |media_type: &str| {
        let fitting = ranges.iter().enumerate();
        let fitting =
            fitting.filter_map(|(at, range)| Some((range.precision(media_type)?, range.quality, Reverse(at))));
        let (_, quality, at) = fitting.max()?;
        (quality > 0).then_some((quality, at))
    };
    let rated = offers.iter().filter_map(|(media_type, offer)| Some((rate(media_type)?, *offer)));
    // The last of several maximums would win.
    rated.rev().max_by_key(|(rating, _)| *rating).map(|(_, offer)| offer)
}

/// A part of `Accept`: `text/*;q=0.5`.
struct Range {
    name: String,
    /// In thousandths; 0 if it cannot be read.
    quality: u16,
}

impl Range {
    fn parse(part: &str) -> Self {
        let mut words = part.split(';').map(|word| word.trim().to_ascii_lowercase());
        let name = words.next().unwrap_or_default();
        let quality = words.find_map(|word| word.strip_prefix("q=").map(thousandths));
        Self { name, quality: quality.unwrap_or(1000) }
    }

    /// How precisely the range names the media type, if it includes it.
    fn precision(&self, media_type: &str) -> Option<u8> {
        let (kind, _) = media_type.split_once('/')?;
        match self.name.split_once('/')? {
            _ if self.name == media_type => Some(2),
            (named, "*") if named == kind => Some(1),
            ("*", "*") => Some(0),
            _ => None,
        }
    }
}

fn thousandths(quality: &str) -> u16 {
    let (whole, fraction) = quality.split_once('.').unwrap_or((quality, ""));
    format!("{whole}{fraction:0<3}").parse().ok().filter(|quality| *quality <= 1000).unwrap_or(0)
}
