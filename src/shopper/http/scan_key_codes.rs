//! `POST /v1/scan-key-codes`: makes a Scan Key Code, as JSON or as the image of the QR code.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use qrcode::render::svg;
use qrcode::{Color, EcLevel, QrCode};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::rfc3339;
use crate::domain::ids::DeviceId;
use crate::http::SCAN_KEY_CODES;
use crate::http::document::Document;
use crate::http::headers::preferred;
use crate::http::members::Members;
use crate::http::openapi::{self, Refusals, refusals};
use crate::shopper::http::authentication::Shopper;
use crate::shopper::http::{ShopperError, Shoppers, TooLong, with_optional_slash};
use crate::shopper::{CodeSettings, IssuedCode, NoCode};

/// The width of the quiet zone in modules (ISO/IEC 18004).
const QUIET_ZONE: usize = 4;
/// The width of a module in a PNG, in pixels.
const MODULE_PIXELS: usize = 8;

/// The headers of an image, with what the JSON answer would contain.
pub(super) const CODE_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-scan-key-code"),
    HeaderName::from_static("x-scan-key-code-expires-at"),
    HeaderName::from_static("x-scan-key-code-refresh-after"),
];

/// A Scan Key Code.
#[derive(Serialize, ToSchema)]
#[schema(as = ScanKeyCode)]
#[serde(rename_all = "camelCase")]
struct CodeBody<'a> {
    /// The text of the QR code.
    scan_key_code: &'a str,
    /// The same in Base64, as a gate sends it in `identityKey`.
    identity_key: &'a str,
    #[schema(format = DateTime)]
    made_at: &'a str,
    #[schema(format = DateTime)]
    expires_at: &'a str,
    refresh_after_seconds: i64,
}

/// The shopper's device that will show the code.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only a description: the body is parsed by hand")]
struct ScanKeyCodeRequest {
    #[schema(min_length = 1, max_length = 255)]
    device_id: Option<String>,
}

refusals! {
    NoCodeRefused = Refusals::default()
        .exactly([ShopperError::NoCode(NoCode::UnknownDevice)])
        .such_as([ShopperError::BadRow("deviceId: must be 1 to 255 characters, or null".into())])
        .exactly([NoCode::NotSignedIn, NoCode::NotLinked, NoCode::AccountFlagged, NoCode::PaymentExpired].map(ShopperError::NoCode));
}

pub(super) fn routes() -> OpenApiRouter<Shoppers> {
    openapi::with_optional_bodies(with_optional_slash(routes!(make)))
}

/// Make a Scan Key Code for the gate
#[utoipa::path(
    post, path = SCAN_KEY_CODES, operation_id = "scanKeyCode",
    description = "Requires `scan_key.customer_prefix`. With `Accept: image/svg+xml` or `image/png`, the answer is \
        the image of the QR code.",
    request_body(content = ScanKeyCodeRequest, example = json!({ "deviceId": "device-abc-123" })),
    responses(
        (
            status = 200, description = "The code. For an image, headers have the members of the JSON answer.",
            content((CodeBody<'_> = "application/json"), (String = "image/svg+xml"), (String = "image/png")),
            headers(
                ("x-scan-key-code" = String, description = "Only with an image."),
                ("x-scan-key-code-expires-at" = String, description = "Only with an image."),
                ("x-scan-key-code-refresh-after" = String, description = "Only with an image."),
            )
        ),
        NoCodeRefused, TooLong,
    )
)]
async fn make(
    State(shoppers): State<Shoppers>,
    Shopper(bearer): Shopper,
    headers: HeaderMap,
    document: Document,
) -> Result<Response, ShopperError> {
    // The route exists only with these settings.
    let settings: &CodeSettings = shoppers.commerce.codes.as_ref().ok_or(ShopperError::NotFound)?;
    let device = device(document.text())?;
    let _permit = shoppers.acquire_permit()?;
    let now = shoppers.clock.now();
    let code = shoppers.commerce.scan_key_code(settings, &bearer.customer, device.as_ref(), now).await??;
    match Picture::preferred(&headers) {
        Some(picture) => as_picture(&code, picture),
        None => Ok(as_json(&code)),
    }
}

/// The device that will show the code, if the body has one.
fn device(body: &str) -> Result<Option<DeviceId>, ShopperError> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let invalid = |message: &'static str| ShopperError::BadRow(message.into());
    let members = Members::parse(body, ["deviceId"]);
    let [id] = members.ok_or_else(|| invalid("the body: must be a JSON object, or absent"))?.values;
    let Some(id) = id.filter(|id| !id.is_null()) else { return Ok(None) };
    let id = id.as_str().and_then(|id| DeviceId::parse(&id).ok()).filter(|id| !id.as_str().contains('\0'));
    id.map(Some).ok_or_else(|| invalid("deviceId: must be 1 to 255 characters, or null"))
}

fn as_json(code: &IssuedCode) -> Response {
    let text = code.code.expose_secret();
    let body = CodeBody {
        scan_key_code: text,
        identity_key: &BASE64_STANDARD.encode(text),
        made_at: &rfc3339(code.made_at),
        expires_at: &rfc3339(code.expires_at),
        refresh_after_seconds: code.refresh_after.num_seconds(),
    };
    Json(body).into_response()
}

fn as_picture(code: &IssuedCode, picture: Picture) -> Result<Response, ShopperError> {
    let text = code.code.expose_secret();
    let drawn = draw(text, picture);
    let drawn = drawn.map_err(|cause| ShopperError::Internal { reason: "picture", cause })?;
    let values = [text.to_owned(), rfc3339(code.expires_at), code.refresh_after.num_seconds().to_string()];
    let mut response = ([(header::CONTENT_TYPE, picture.content_type())], drawn).into_response();
    for (name, value) in CODE_HEADERS.into_iter().zip(values) {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// The image format of a QR code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Picture {
    Svg,
    Png,
}

impl Picture {
    fn content_type(self) -> &'static str {
        match self {
            Self::Svg => "image/svg+xml",
            Self::Png => "image/png",
        }
    }

    /// The format that the client prefers to JSON; `None` for JSON. PNG if the client accepts both equally, since more
    /// apps can show it.
    fn preferred(headers: &HeaderMap) -> Option<Self> {
        let [png, svg] = [Self::Png, Self::Svg].map(|picture| (picture.content_type(), Some(picture)));
        preferred(headers, &[("application/json", None), png, svg]).flatten()
    }
}

/// Draws a code: always dark on light, with the quiet zone that readers need. The error does not contain the code.
fn draw(code: &str, picture: Picture) -> Result<Vec<u8>, String> {
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
