//! Checks the claims that every token must have, from any issuer (RFC 7519, section 4.1), against the connector's
//! clock.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::shopper::jws::Unverified;
use crate::shopper::refusal::Refusal;

/// How far the clock of a token's issuer may be ahead of the connector's clock.
pub(crate) const CLOCK_LEEWAY: TimeDelta = TimeDelta::seconds(60);

/// Checks the audience, the times, and that the token needs no proof of possession.
///
/// # Errors
/// Returns the first check that fails.
pub(crate) fn check(token: &Unverified<'_>, audiences: &[String], now: DateTime<Utc>) -> Result<(), Refusal> {
    let is_ours = |audience: &Value| {
        audience.as_str().is_some_and(|audience| audiences.iter().any(|accepted| accepted == audience))
    };
    let is_for_us = match token.claims.get("aud") {
        Some(Value::Array(several)) => several.iter().any(is_ours),
        Some(audience) => is_ours(audience),
        None => false,
    };
    if !is_for_us {
        return Err(Refusal::WrongAudience);
    }
    if token.claims.contains_key("cnf") {
        return Err(Refusal::SenderConstrained);
    }
    let expires_at = time_claim(token, "exp")?.ok_or(Refusal::MalformedToken)?;
    if now >= expires_at {
        return Err(Refusal::ExpiredToken);
    }
    let latest_start = now.checked_add_signed(CLOCK_LEEWAY).unwrap_or(now);
    for claim in ["nbf", "iat"] {
        if time_claim(token, claim)?.is_some_and(|starts_at| starts_at > latest_start) {
            return Err(Refusal::NotYetValid);
        }
    }
    Ok(())
}

/// A `NumericDate`: seconds since 1970. A fraction is cut off.
fn time_claim(token: &Unverified<'_>, claim: &str) -> Result<Option<DateTime<Utc>>, Refusal> {
    let Some(value) = token.claims.get(claim) else { return Ok(None) };
    let seconds = match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole_seconds)),
        _ => None,
    };
    let time = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    time.map(Some).ok_or(Refusal::MalformedToken)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the fraction is cut off on purpose, and values out of range are refused before"
)]
fn whole_seconds(seconds: f64) -> Option<i64> {
    (seconds.is_finite() && seconds.abs() < 1e12).then_some(seconds as i64)
}
