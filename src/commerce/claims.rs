//! What every token's claims must say, whoever made it (RFC 7519, section 4.1), against our own clock.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::jws::Unverified;
use super::refusal::Refusal;

/// How far ahead of ours the clock of whoever made a token may be.
pub(super) const CLOCKS_DIFFER: TimeDelta = TimeDelta::seconds(60);

/// Checks audience, times and that whoever holds it may use it.
///
/// # Errors
/// With the first that does not hold.
pub(super) fn check(token: &Unverified<'_>, audiences: &[String], now: DateTime<Utc>) -> Result<(), Refusal> {
    let is_ours =
        |audience: &Value| audience.as_str().is_some_and(|audience| audiences.iter().any(|ours| ours == audience));
    let is_for_us = match token.claims.get("aud") {
        Some(Value::Array(several)) => several.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    };
    if !is_for_us {
        return Err(Refusal::WrongAudience);
    }
    if token.claims.contains_key("cnf") {
        return Err(Refusal::SenderConstrained);
    }
    let ends = instant(token, "exp")?.ok_or(Refusal::MalformedToken)?;
    if now >= ends {
        return Err(Refusal::ExpiredToken);
    }
    let soon = now.checked_add_signed(CLOCKS_DIFFER).unwrap_or(now);
    for claim in ["nbf", "iat"] {
        if instant(token, claim)?.is_some_and(|begins| begins > soon) {
            return Err(Refusal::NotYetValid);
        }
    }
    Ok(())
}

/// A `NumericDate`: seconds since 1970, perhaps with a fraction, which is cut off.
fn instant(token: &Unverified<'_>, claim: &str) -> Result<Option<DateTime<Utc>>, Refusal> {
    let Some(value) = token.claims.get(claim) else { return Ok(None) };
    let seconds = match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole)),
        _ => None,
    };
    let instant = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    instant.map(Some).ok_or(Refusal::MalformedToken)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the fraction is meant to go, and what is out of range is refused before"
)]
fn whole(seconds: f64) -> Option<i64> {
    (seconds.is_finite() && seconds.abs() < 1e12).then_some(seconds as i64)
}
