//! Draws a Scan Key Code as a QR code: always dark on light, with the quiet zone that readers need.

use axum::http::HeaderMap;
use qrcode::render::svg;
use qrcode::{Color, EcLevel, QrCode};

use crate::http::headers::preferred;

/// The image format of a QR code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picture {
    Svg,
    Png,
}

/// The width of the quiet zone in modules (ISO/IEC 18004).
const QUIET_ZONE: usize = 4;
/// The width of a module in a PNG, in pixels.
const MODULE_PIXELS: usize = 8;

impl Picture {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Svg => "image/svg+xml",
            Self::Png => "image/png",
        }
    }

    /// The format that the client prefers to JSON; `None` for JSON. PNG if the client accepts both equally, since more
    /// apps can show it.
    pub(crate) fn preferred(headers: &HeaderMap) -> Option<Self> {
        let [png, svg] = [Self::Png, Self::Svg].map(|picture| (picture.content_type(), Some(picture)));
        preferred(headers, &[("application/json", None), png, svg]).flatten()
    }
}

/// Draws a code.
///
/// # Errors
/// When the code cannot be drawn. The message does not contain the code.
pub(crate) fn draw(code: &str, picture: Picture) -> Result<Vec<u8>, String> {
    let qr = QrCode::with_error_correction_level(code, EcLevel::M).map_err(|error| error.to_string())?;
    match picture {
        Picture::Svg => Ok(qr.render::<svg::Color<'_>>().build().into_bytes()),
        Picture::Png => png(&qr).map_err(|error| error.to_string()),
    }
}

/// Draws a PNG in black and white. With one byte a pixel it still compresses well.
fn png(qr: &QrCode) -> Result<Vec<u8>, png::EncodingError> {
    let modules = qr.width().saturating_add(QUIET_ZONE.saturating_mul(2));
    let is_dark = |x: usize, y: usize| {
        let within = |at: usize| at.checked_sub(QUIET_ZONE).filter(|at| *at < qr.width());
        matches!((within(x), within(y)), (Some(x), Some(y)) if qr[(x, y)] == Color::Dark)
    };
    let row = |y| {
        let shades = (0..modules).map(move |x| if is_dark(x, y) { 0_u8 } else { 255 });
        shades.flat_map(|shade| std::iter::repeat_n(shade, MODULE_PIXELS)).collect::<Vec<u8>>()
    };
    let pixels: Vec<u8> = (0..modules).flat_map(|y| row(y).repeat(MODULE_PIXELS)).collect();
    let side = u32::try_from(modules.saturating_mul(MODULE_PIXELS)).unwrap_or(u32::MAX);
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
    fn accept_header_selects_the_image_format() {
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
            assert_eq!(Picture::preferred(&headers), want, "{accept}");
        }
        assert_eq!(Picture::preferred(&HeaderMap::new()), None);
    }
}
