//! Tokens that are signed by a provider but whose claims are not acceptable.

use crate::trials::{apply, test};
use serde_json::{Value, json};

use crate::support::Server;
use crate::support::keys::{rsa, token_under};
use crate::support::provider::{AUDIENCE, Provider};
use crate::support::shopper::{assert_token_refused, context, token, with_token};

/// A provider, and a connector that trusts it.
pub(crate) struct Trusted {
    provider: Provider,
    pub(crate) server: Server,
}

impl Trusted {
    pub(crate) async fn new(settings: &[(&str, &str)]) -> Self {
        let provider = Provider::start(&[rsa()]).await;
        let server = provider.connector(settings).await;
        Self { provider, server }
    }

    pub(crate) fn claims(&self) -> Value {
        self.provider.claims(self.server.clock.now())
    }

    /// A valid token with one claim changed, or removed for `None`.
    pub(crate) fn token(&self, claim: &str, value: Option<Value>) -> String {
        let mut claims = self.claims();
        match value {
            Some(value) => claims[claim] = value,
            None => drop(claims.as_object_mut().unwrap().remove(claim)),
        }
        rsa().token(&claims)
    }

    pub(crate) async fn assert_accepted(&self, claim: &str, value: Option<Value>) {
        let what = format!("{claim} = {value:?}");
        assert_eq!(context(&self.server, &self.token(claim, value)).await.status, 200, "{what}");
    }

    pub(crate) async fn assert_refused(&self, claim: &str, value: Option<Value>, reason: &str) {
        let what = format!("{claim} = {value:?}");
        assert_token_refused(&self.server, &self.token(claim, value), reason, &what).await;
    }
}

#[apply(test)]
async fn unknown_issuer_is_refused() {
    let trusted = Trusted::new(&[]).await;
    let issuer = trusted.provider.issuer();
    trusted.assert_accepted("iss", Some(json!(issuer))).await;
    for invalid in [
        json!(format!("{issuer}/")),
        json!(issuer.to_uppercase()),
        json!(issuer.replace("http:", "https:")),
        json!(issuer.replace("127.0.0.1", "localhost")),
        json!(format!(" {issuer}")),
        json!(""),
        json!("https://evil.example"),
        json!([issuer]),
        json!(5),
        Value::Null,
    ] {
        trusted.assert_refused("iss", Some(invalid), "unknown_issuer").await;
    }
    trusted.assert_refused("iss", None, "unknown_issuer").await;
}

#[apply(test)]
async fn own_issuer_and_a_providers_issuer_are_separate() {
    let key = b"the signing key of these tests!!";
    let signing = ("commerce.signing_keys", "dGhlIHNpZ25pbmcga2V5IG9mIHRoZXNlIHRlc3RzISE=");
    let trusted = Trusted::new(&[signing]).await;
    let server = &trusted.server;
    // Our issuer with a signature of the provider.
    let mut ours = crate::support::shopper::claims(&token(server, &json!({})).await);
    for header in [rsa().header(), json!({ "alg": "RS256", "typ": "JWT" })] {
        assert_token_refused(server, &rsa().token_with(&header, &ours), "algorithm_not_allowed", "RS256").await;
    }
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": "rsa" });
    assert_token_refused(server, &rsa().token_with(&header, &ours), "wrong_signature", "HS256").await;
    // The provider's issuer with our signature.
    ours["iss"] = trusted.provider.issuer().into();
    ours["aud"] = AUDIENCE.into();
    for claims in [&ours, &trusted.claims()] {
        let token = token_under(key, &header, claims);
        assert_token_refused(server, &token, "algorithm_not_allowed", "under our own key").await;
    }
    // Another key with the id of the provider's key.
    let other_provider = Trusted::new(&[]).await;
    let forging_key = crate::support::keys::Key::rsa("rsa");
    let token = forging_key.token(&other_provider.claims());
    assert_token_refused(&other_provider.server, &token, "wrong_signature", "another key with the same id").await;
}

#[apply(test)]
async fn audience_must_be_configured() {
    let trusted = Trusted::new(&[("commerce.identity_providers.test.audience", "shop, app")]).await;
    for audience in [json!("shop"), json!("app"), json!(["shop"]), json!(["other", "app"]), json!([5, "shop"])] {
        trusted.assert_accepted("aud", Some(audience)).await;
    }
    for audience in [
        json!("other"),
        json!("Shop"),
        json!("shop "),
        json!("shop, app"),
        json!("shop app"),
        json!(""),
        json!([]),
        json!(["other"]),
        json!([["shop"]]),
        json!({ "shop": true }),
        json!(true),
        Value::Null,
    ] {
        trusted.assert_refused("aud", Some(audience), "wrong_audience").await;
    }
    trusted.assert_refused("aud", None, "wrong_audience").await;
    let ours = Some(json!("JhooseCommerceApi"));
    trusted.assert_refused("aud", ours, "wrong_audience").await;
}

#[apply(test)]
async fn token_that_needs_proof_of_possession_is_refused() {
    let trusted = Trusted::new(&[]).await;
    for confirmation in [json!({ "jkt": "x" }), json!({ "x5t#S256": "x" }), json!({}), Value::Null] {
        trusted.assert_refused("cnf", Some(confirmation), "sender_constrained_token").await;
    }
}

#[apply(test)]
async fn customer_claim_is_required() {
    let trusted = Trusted::new(&[]).await;
    for name in ["x".to_owned(), "x".repeat(255), "ß".repeat(255), "a b\n\u{1F600}".to_owned(), "'; --".to_owned()] {
        trusted.assert_accepted("sub", Some(json!(name))).await;
    }
    for invalid in [
        json!(""),
        json!("x".repeat(256)),
        json!("ß".repeat(256)),
        json!("a\u{0}b"),
        json!("\u{0}"),
        json!(5),
        json!(true),
        json!(["customer-1"]),
        json!({ "sub": "customer-1" }),
        Value::Null,
    ] {
        trusted.assert_refused("sub", Some(invalid), "no_customer").await;
    }
    trusted.assert_refused("sub", None, "no_customer").await;
}

#[apply(test)]
async fn customer_claim_is_configurable() {
    let trusted = Trusted::new(&[("commerce.identity_providers.test.customer_claim", "oid")]).await;
    trusted.assert_refused("oid", None, "no_customer").await;
    trusted.assert_accepted("oid", Some(json!("customer-1"))).await;
    let mut claims = trusted.claims();
    claims["oid"] = "customer-1".into();
    claims.as_object_mut().unwrap().remove("sub");
    let shopper = with_token(&trusted.server, &rsa().token(&claims)).await;
    assert_eq!(shopper.anonymous_id, None);
}

#[apply(test)]
async fn claims_that_are_not_an_object_are_refused() {
    let trusted = Trusted::new(&[]).await;
    let good = trusted.claims().to_string();
    let cut = good.strip_suffix('}').unwrap();
    let deep = format!("{cut},\"x\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let deeper = format!("{cut},\"x\":{}}}", "[".repeat(5000));
    let broken = format!("{cut},\"x\":\"\\ud800\"}}");
    for claims in
        ["", "null", "[]", "5", "\"x\"", cut, &format!("{good}{{}}"), &format!("[{good}]"), &deep, &deeper, &broken]
    {
        let token = rsa().token_of(&rsa().header().to_string(), claims);
        assert_token_refused(&trusted.server, &token, "malformed_token", claims).await;
    }
    let spaced = rsa().token_of(&rsa().header().to_string(), &format!(" {good}\n"));
    assert_eq!(context(&trusted.server, &spaced).await.status, 200);
}

/// RFC 7519, section 4: a parser refuses duplicates or uses the last one. Either way there is one customer and no 500.
#[apply(test)]
async fn last_of_duplicate_claims_is_used() {
    let trusted = Trusted::new(&[]).await;
    let good = trusted.claims().to_string();
    let cut = good.strip_suffix('}').unwrap();
    for (claims, reason) in [
        (format!("{cut},\"exp\":1}}"), "token_expired"),
        (format!("{cut},\"aud\":\"other\"}}"), "wrong_audience"),
        (format!("{cut},\"iss\":\"other\"}}"), "unknown_issuer"),
        (format!("{cut},\"sub\":\"\"}}"), "no_customer"),
    ] {
        let token = rsa().token_of(&rsa().header().to_string(), &claims);
        assert_token_refused(&trusted.server, &token, reason, &claims).await;
    }
}
