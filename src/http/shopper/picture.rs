//! A Scan Key Code as a QR code: dark on light whatever the screen around it, with the quiet zone that readers need.

use axum::http::HeaderMap;
use qrcode::render::svg;
use qrcode::{Color, EcLevel, QrCode};

use crate::http::accept;

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

    /// Which picture the client prefers to JSON, if it does: a PNG where either will do, since more apps can show one.
    pub(super) fn wanted(headers: &HeaderMap) -> Option<Self> {
        let [png, svg] = [Self::Png, Self::Svg].map(|picture| (picture.content_type(), Some(picture)));
        accept::preferred(headers, &[("application/json", None), png, svg]).flatten()
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
    use axum::http::header;

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
            ("image/png;q=1.5", None),
            ("IMAGE/PNG;Q=0", None),
            ("image/png ; q=0.001", Some(Picture::Png)),
            ("image/*", Some(Picture::Png)),
            ("image/*, image/png;q=0", Some(Picture::Svg)),
            ("image/*;q=0.5, application/json;q=0.4", Some(Picture::Png)),
            ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", Some(Picture::Svg)),
            ("*/*", None),
            ("*/*, application/json;q=0.1", Some(Picture::Png)),
            ("application/*, image/*", None),
            ("image/jpeg", None),
            ("text/html", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().expect("a header"))]);
            assert_eq!(Picture::wanted(&headers), want, "{accept}");
        }
        assert_eq!(Picture::wanted(&HeaderMap::new()), None);
    }
}
