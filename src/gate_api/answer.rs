//! The answer to the gate's call. The same record always gives the same bytes.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::decision::Decision;
use crate::domain::ids::DeviceId;
use crate::domain::visitor::Visitor;
use crate::http::error::{Outcome, Refused};
use crate::ledger::Record;

/// The visitor for whom the gate opens.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Authorized<'a> {
    visitor_details: VisitorDetails<'a>,
    /// Present if the key or code identifies the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    shopper_device_id: Option<&'a str>,
    /// Deprecated. Present only if `answer.payment_source` is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = PaymentSource, required = false, inline)]
    payment_source: Option<PaymentSource<'a>>,
}

/// A visitor.
#[derive(Serialize, ToSchema)]
pub(crate) struct VisitorDetails<'a> {
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

/// 200 with the visitor for whom the gate opens, or 401 with the message why it stays closed.
pub(crate) fn render(record: &Record, replay: bool) -> Response {
    let outcome = |reason, decision| Outcome {
        reason,
        cause: None,
        decision: Some(decision),
        session: record.session.as_str(),
        replay,
    };
    match &record.decision {
        Decision::Accepted(grant) => {
            let mut response = Json(Authorized {
                visitor_details: VisitorDetails::from(&grant.visitor),
                shopper_device_id: grant.device.as_ref().map(DeviceId::as_str),
                payment_source: grant.payment_source.as_ref().map(|source| PaymentSource { id: source.as_str() }),
            })
            .into_response();
            response.extensions_mut().insert(outcome("accepted", "accepted"));
            response
        }
        Decision::Denied(denial) => {
            let outcome = outcome(denial.reason(), "denied");
            Refused::with_outcome(StatusCode::UNAUTHORIZED, denial.message(), outcome).into_response()
        }
    }
}
