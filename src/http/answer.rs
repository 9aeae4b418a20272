//! A decision as Amazon receives it. The same decision always makes the same bytes.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{Why, refuse};
use crate::domain::decision::{Decision, Grant};
use crate::domain::ids::DeviceId;
use crate::domain::visitor::Visitor;
use crate::ledger::Record;

/// Whom the gate opens for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authorized<'a> {
    visitor_details: VisitorDetails<'a>,
    /// There when the key or code identifies the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    shopper_device_id: Option<&'a str>,
    /// There only if `answer.payment_source` is on: deprecated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = PaymentSource, required = false, inline)]
    payment_source: Option<PaymentSource<'a>>,
}

/// A visitor.
#[derive(Serialize, ToSchema)]
pub(super) struct VisitorDetails<'a> {
    #[schema(min_length = 1, max_length = 255)]
    id: &'a str,
    #[serde(rename = "type")]
    #[schema(pattern = "^(SHOPPER|ASSOCIATE|CASH_SHOPPER)$")]
    kind: &'static str,
}

impl<'a> From<&'a Visitor> for VisitorDetails<'a> {
    fn from(visitor: &'a Visitor) -> Self {
        Self { id: visitor.id.as_str(), kind: visitor.kind.as_str() }
    }
}

#[derive(Serialize, ToSchema)]
struct PaymentSource<'a> {
    id: &'a str,
}

/// 200 with whom the gate opens for, or 401 with why it stays shut.
pub(super) fn render(record: &Record, replay: bool) -> Response {
    let why = |reason, decision| Why {
        reason,
        cause: None,
        decision: Some(decision),
        session: record.session.as_str(),
        replay,
    };
    match &record.decision {
        Decision::Accepted(grant) => {
            let mut response = Json(authorized(grant)).into_response();
            response.extensions_mut().insert(why("accepted", "accepted"));
            response
        }
        Decision::Denied(denial) => refuse(StatusCode::UNAUTHORIZED, denial.message(), why(denial.reason(), "denied")),
    }
}

fn authorized(grant: &Grant) -> Authorized<'_> {
    Authorized {
        visitor_details: VisitorDetails::from(&grant.visitor),
        shopper_device_id: grant.device.as_ref().map(DeviceId::as_str),
        payment_source: grant.payment_source.as_ref().map(|source| PaymentSource { id: source.as_str() }),
    }
}
