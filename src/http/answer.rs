//! A decision as Amazon receives it. The same decision always makes the same bytes.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::Why;
use crate::domain::decision::{Decision, Grant};
use crate::domain::ids::DeviceId;
use crate::domain::visitor::Visitor;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Authorized<'a> {
    visitor_details: VisitorDetails<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shopper_device_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_source: Option<PaymentSource<'a>>,
}

#[derive(Serialize)]
pub(super) struct VisitorDetails<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

impl<'a> From<&'a Visitor> for VisitorDetails<'a> {
    fn from(visitor: &'a Visitor) -> Self {
        Self { id: visitor.id.as_str(), kind: visitor.kind.as_str() }
    }
}

#[derive(Serialize)]
struct PaymentSource<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Denied {
    message: &'static str,
}

/// 200 with whom the gate opens for, or 401 with why it stays shut.
pub(super) fn render(decision: &Decision, replay: bool) -> Response {
    let (mut response, reason) = match decision {
        Decision::Accepted(grant) => (Json(authorized(grant)).into_response(), "accepted"),
        Decision::Denied(denial) => {
            let body = Json(Denied { message: denial.message() });
            ((StatusCode::UNAUTHORIZED, body).into_response(), denial.reason())
        }
    };
    response.extensions_mut().insert(Why { reason, cause: None, replay });
    response
}

fn authorized(grant: &Grant) -> Authorized<'_> {
    Authorized {
        visitor_details: VisitorDetails::from(&grant.visitor),
        shopper_device_id: grant.device.as_ref().map(DeviceId::as_str),
        payment_source: grant.payment_source.as_ref().map(|source| PaymentSource { id: source.as_str() }),
    }
}
