//! A Scan Key Code as a QR code: dark on light whatever the screen around it, with the quiet zone that readers need.

use axum::http::{HeaderMap, header};
use qrcode::render::svg;
use qrcode::{Color, EcLevel, QrCode};

/// A form in which a QR code can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Picture {
    Svg,
    Png,
}

/// How many light modules surround the code (ISO/IEC 18004).
const QUIET: usize = 4;
/// How many pixels wide a module is in a PNG.
const PIXELS: usize = 8;

impl Picture {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Svg => "image/svg+xml",
            Self::Png => "image/png",
        }
    }

    /// Which picture `Accept` asks for, if it prefers one to JSON: the first of those that it likes best.
    pub(super) fn wanted(headers: &HeaderMap) -> Option<Self> {
        let mut best = (0.0, None);
        let lines = headers.get_all(header::ACCEPT).into_iter().filter_map(|line| line.to_str().ok());
        for part in lines.flat_map(|line| line.split(',')) {
            let mut words = part.split(';').map(str::trim);
            let form = match words.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "image/svg+xml" => Some(Self::Svg),
                "image/png" => Some(Self::Png),
                "application/json" | "application/*" | "*/*" => None,
                _ => continue,
            };
            let quality = words.find_map(|word| word.strip_prefix("q=")).map_or(Ok(1.0), str::parse);
            let quality: f32 = quality.unwrap_or_default(); // what cannot be read is not wanted
            if quality > best.0 {
                best = (quality, form);
            }
        }
        best.1
    }
}

/// Draws a code.
///
/// # Errors
/// When it cannot be drawn, which says nothing of what it holds.
pub(super) fn draw(code: &str, picture: Picture) -> Result<Vec<u8>, String> {
    let qr = QrCode::with_error_correction_level(code, EcLevel::M).map_err(|error| error.to_string())?;
    match picture {
        Picture::Svg => Ok(qr.render::<svg::Color<'_>>().build().into_bytes()),
        Picture::Png => png(&qr).map_err(|error| error.to_string()),
    }
}

/// In two shades, one byte a pixel: it packs well.
fn png(qr: &QrCode) -> Result<Vec<u8>, png::EncodingError> {
    let modules = qr.width().saturating_add(QUIET.saturating_mul(2));
    let is_dark = |x: usize, y: usize| {
        let within = |at: usize| at.checked_sub(QUIET).filter(|at| *at < qr.width());
        matches!((within(x), within(y)), (Some(x), Some(y)) if qr[(x, y)] == Color::Dark)
    };
    let row = |y| {
        let shades = (0..modules).map(move |x| if is_dark(x, y) { 0_u8 } else { 255 });
        shades.flat_map(|shade| std::iter::repeat_n(shade, PIXELS)).collect::<Vec<u8>>()
    };
    let pixels: Vec<u8> = (0..modules).flat_map(|y| row(y).repeat(PIXELS)).collect();
    let side = u32::try_from(modules.saturating_mul(PIXELS)).unwrap_or(u32::MAX);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_made_for_whoever_prefers_one() {
        for (accept, want) in [
            ("image/png", Some(Picture::Png)),
            ("image/svg+xml", Some(Picture::Svg)),
            ("IMAGE/PNG", Some(Picture::Png)),
            ("image/svg+xml, image/png", Some(Picture::Svg)),
            ("image/svg+xml;q=0.5, image/png", Some(Picture::Png)),
            ("application/json, image/png;q=0.9", None),
            ("*/*, image/png", None),
            ("*/*;q=0.1, image/png", Some(Picture::Png)),
            ("image/png;q=0", None),
            ("image/png;q=x", None),
            ("text/html", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().expect("a header"))]);
            assert_eq!(Picture::wanted(&headers), want, "{accept}");
        }
        assert_eq!(Picture::wanted(&HeaderMap::new()), None);
    }
}
