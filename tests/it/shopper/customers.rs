//! Identity of customers: a customer is a pair of issuer and subject, and a provider can never name an anonymous
//! customer.

use crate::trials::{apply, test};
use serde_json::json;

use crate::shopper::contexts::accepts_pair;
use crate::support::keys::{Key, rsa};
use crate::support::provider::Provider;
use crate::support::shopper::{anonymous_with_id, context, with_token};

const ID: &str = "0f0e0d0c-1111-2222-3333-44445555abcd";

#[apply(test)]
async fn customer_of_a_provider_is_never_anonymous() {
    let provider = Provider::start(&[rsa()]).await;
    let server = provider.connector(&[]).await;
    let anonymous = anonymous_with_id(&server, ID).await;
    assert_eq!(anonymous.anonymous_id.as_deref(), Some(ID));
    for (subject, jti) in
        [("anonymous", json!(ID)), ("anonymous", json!(null)), (ID, json!(ID)), ("customer-1", json!(5))]
    {
        let mut claims = provider.claims(server.clock.now());
        claims["sub"] = subject.into();
        claims["jti"] = jti;
        let token = rsa().token(&claims);
        assert_eq!(context(&server, &token).await.json()["isAnonymous"], false, "{claims}");
        assert_eq!(with_token(&server, &token).await.anonymous_id, None);
    }
}

#[apply(test)]
async fn each_provider_authenticates_only_its_own_customers() {
    let [first_key, second_key] = [Key::rsa("key"), Key::rsa("key")];
    let [first, second] = [Provider::start(&[&first_key]).await, Provider::start(&[&second_key]).await];
    let issuer = second.issuer();
    let settings = [
        ("commerce.identity_providers.second.issuer", &*issuer),
        ("commerce.identity_providers.second.audience", "other-shop"),
        ("commerce.identity_providers.second.customer_claim", "oid"),
    ];
    let server = first.connector(&settings).await;
    let of_first = first.claims(server.clock.now());
    let mut of_second = second.claims(server.clock.now());
    of_second["aud"] = "other-shop".into();
    of_second["oid"] = "customer-1".into();
    assert_eq!(context(&server, &first_key.token(&of_first)).await.status, 200);
    assert_eq!(context(&server, &second_key.token(&of_second)).await.status, 200);
    // The key and the audience of one provider are not accepted for the other.
    assert_eq!(context(&server, &second_key.token(&of_first)).await.status, 401);
    assert_eq!(context(&server, &first_key.token(&of_second)).await.status, 401);
    of_second["aud"] = "shop".into();
    assert_eq!(context(&server, &second_key.token(&of_second)).await.status, 401);
}

#[apply(test)]
async fn context_is_bound_to_the_customer_and_the_token() {
    let provider = Provider::start(&[rsa()]).await;
    let server = provider.connector(&[]).await;
    let claims = provider.claims(server.clock.now());
    let shopper = with_token(&server, &rsa().token(&claims)).await;
    let mut renewed = claims.clone();
    renewed["iat"] = 1.into();
    let renewed = with_token(&server, &rsa().token(&renewed)).await;
    let mut other_shopper = claims;
    other_shopper["sub"] = "customer-2".into();
    let other_shopper = with_token(&server, &rsa().token(&other_shopper)).await;
    let all = [&shopper, &renewed, &other_shopper];
    for token in all {
        for context in all {
            let is_own_context = token.token == context.token;
            assert_eq!(accepts_pair(&server, &token.token, &context.context).await, is_own_context);
        }
    }
}
