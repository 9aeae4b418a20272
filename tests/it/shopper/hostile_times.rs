//! Tokens that are not valid yet, have expired, or have invalid times.

use crate::trials::{apply, test};
use std::time::Duration;

use serde_json::{Value, json};

use crate::shopper::hostile_claims::Trusted;
use crate::support::shopper::{assert_token_refused, context};

#[apply(test)]
async fn expiry_is_required_and_must_be_in_the_future() {
    let trusted = Trusted::new(&[]).await;
    let now = trusted.server.clock.now().timestamp();
    trusted.assert_accepted("exp", Some(json!(now + 1))).await;
    trusted.assert_accepted("exp", Some(json!(now as f64 + 1.5))).await;
    trusted.assert_accepted("exp", Some(json!(4_102_444_800_u64))).await;
    for past in [json!(now), json!(now - 1), json!(now - 3600), json!(0), json!(-1), json!(now as f64 + 0.01)] {
        trusted.assert_refused("exp", Some(past), "token_expired").await;
    }
    for invalid in [
        json!((now + 60).to_string()),
        json!("never"),
        json!(true),
        json!([now + 60]),
        json!({}),
        json!(1e300),
        json!(-1e300),
        json!(u64::MAX),
        json!(i64::MAX),
        json!(i64::MIN),
        Value::Null,
    ] {
        trusted.assert_refused("exp", Some(invalid), "malformed_token").await;
    }
    trusted.assert_refused("exp", None, "malformed_token").await;
    // The token expires exactly at `exp` by the connector's clock.
    let token = trusted.token("exp", Some(json!(now + 10)));
    let ends = chrono::DateTime::from_timestamp(now + 10, 0).unwrap();
    let left = (ends - trusted.server.clock.now()).to_std().unwrap();
    trusted.server.clock.advance(left - Duration::from_nanos(1));
    assert_eq!(context(&trusted.server, &token).await.status, 200, "a nanosecond before `exp`");
    trusted.server.clock.advance(Duration::from_nanos(1));
    assert_token_refused(&trusted.server, &token, "token_expired", "at `exp`, without leeway").await;
}

#[apply(test)]
async fn start_may_be_at_most_a_minute_ahead() {
    let trusted = Trusted::new(&[]).await;
    // Start at a whole second, so that a minute is exact.
    let since = trusted.server.clock.now().timestamp_subsec_nanos();
    trusted.server.clock.advance(Duration::from_nanos(u64::from(1_000_000_000 - since)));
    let now = trusted.server.clock.now().timestamp();
    for claim in ["nbf", "iat"] {
        for fine in [json!(now), json!(now + 60), json!(0), json!(-5), json!(now as f64 - 0.5)] {
            trusted.assert_accepted(claim, Some(fine)).await;
        }
        trusted.assert_accepted(claim, None).await;
        for future in [json!(now + 61), json!(now + 3600), json!(4_102_444_800_u64)] {
            trusted.assert_refused(claim, Some(future), "token_not_yet_valid").await;
        }
        for invalid in [json!(now.to_string()), json!(false), json!([now]), json!(1e300), json!(u64::MAX), Value::Null]
        {
            trusted.assert_refused(claim, Some(invalid), "malformed_token").await;
        }
    }
    let token = trusted.token("nbf", Some(json!(now + 61)));
    trusted.server.clock.advance(Duration::from_nanos(999_999_999));
    assert_token_refused(&trusted.server, &token, "token_not_yet_valid", "a nanosecond too early").await;
    trusted.server.clock.advance(Duration::from_nanos(1));
    assert_eq!(context(&trusted.server, &token).await.status, 200, "exactly a minute ahead");
}
