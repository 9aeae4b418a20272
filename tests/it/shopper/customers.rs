//! Identity of customers: a customer is a pair of issuer and subject, and a provider can never name an anonymous
//! customer.

use crate::trials::{apply, test};
use serde_json::json;

use crate::checks::{set, unset};
use crate::support::keys::{Key, rsa};
use crate::support::provider::Provider;
use crate::support::shopper::{ACCEPTED, anonymous_with_id, assert_tokens, context, with_token};

const ID: &str = "0f0e0d0c-1111-2222-3333-44445555abcd";

#[apply(test)]
async fn customer_of_a_provider_is_never_anonymous() {
    let (_provider, server, claims) = Provider::trusted(&[rsa()], &[]).await;
    assert_eq!(anonymous_with_id(&server, ID).await.anonymous_id.as_deref(), Some(ID));
    for (subject, jti) in
        [("anonymous", json!(ID)), ("anonymous", json!(null)), (ID, json!(ID)), ("customer-1", json!(5))]
    {
        let claims = set(set(claims.clone(), "sub", subject), "jti", jti);
        let token = rsa().token(&claims);
        assert_eq!(context(&server, &token).await.json()["isAnonymous"], false, "{claims}");
        assert_eq!(with_token(&server, &token).await.anonymous_id, None);
    }
}

#[apply(test)]
async fn each_provider_authenticates_only_its_own_customers() {
    let [first_key, second_key] = [Key::rsa("key"), Key::rsa("key")];
    let second = Provider::start(&[&second_key]).await;
    let issuer = second.issuer();
    let settings = [
        ("commerce.identity_providers.second.issuer", &*issuer),
        ("commerce.identity_providers.second.audience", "other-shop"),
        ("commerce.identity_providers.second.customer_claim", "oid"),
    ];
    let (_first, server, of_first) = Provider::trusted(&[&first_key], &settings).await;
    let without_oid = set(second.claims(server.clock.now()), "aud", "other-shop");
    let of_second = unset(set(without_oid.clone(), "oid", "customer-1"), "sub");
    let rows = [
        ("the first one", first_key.token(&of_first), ACCEPTED),
        ("the second one", second_key.token(&of_second), ACCEPTED),
        ("the key of the second one", second_key.token(&of_first), "wrong_signature"),
        ("the key of the first one", first_key.token(&of_second), "wrong_signature"),
        ("the audience of the first one", second_key.token(&set(of_second, "aud", "shop")), "wrong_audience"),
        ("the customer claim of the first one", second_key.token(&without_oid), "no_customer"),
    ];
    assert_tokens(&server, rows).await;
}
