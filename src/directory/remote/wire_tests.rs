use super::*;

fn outcome(kind: Kind, text: &str) -> String {
    match read(kind, text.as_bytes()) {
        Ok(registration) => format!("{registration:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_error_has_the_path_of_a_wrong_member_and_never_its_value() {
    for (text, wanted) in [
        ("", "is not a single JSON object"),
        ("s3cret", "is not a single JSON object"),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER"}} {}"#, "is not a single JSON object"),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER""#, "is not a single JSON object"),
        ("\u{feff}{}", "is not a single JSON object"),
        ("[]", "is not a single JSON object"),
        ("[null, null, null, true]", "is not a single JSON object"),
        ("{}", "shopper: is missing"),
        ("null", "is not a single JSON object"),
        (r#""s3cret""#, "is not a single JSON object"),
        (r#"{"s3cret": 1, "revoked": true}"#, "the object: wrong type, invalid value, or unknown member"),
        (r#"{"shopper": {"s3cret": 1}}"#, "shopper: wrong type, invalid value, or unknown member"),
        (r#"{"shopper": {"id": "a", "type": "s3cret"}}"#, "shopper.type: wrong type, invalid value, or unknown member"),
        (r#"{"shopper": {"id": 7, "type": "SHOPPER"}}"#, "shopper.id: wrong type, invalid value, or unknown member"),
        (r#"{"shopper": {"id": "", "type": "SHOPPER"}}"#, "shopper.id: is empty"),
        (r#"{"shopper": {"id": "s3cret\u0000", "type": "SHOPPER"}}"#, "shopper.id: must not contain U+0000"),
        (r#"{"shopper": {"type": "SHOPPER"}}"#, "shopper.id: is empty"),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER", "account": "s3cret"}}"#, "shopper.account: wrong type"),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER", "paymentMethod": {}}}"#, "shopper.paymentMethod: wrong type"),
        (
            r#"{"shopper": {"id": "a", "type": "SHOPPER", "paymentMethod": {"lastMonth": "s3cret"}}}"#,
            "shopper.paymentMethod.lastMonth: must be a month",
        ),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER", "devices": ["s3cret"]}}"#, "shopper.devices: must be absent"),
        (
            r#"{"shopper": {"id": "a", "type": "SHOPPER"}, "channel": "s3cret"}"#,
            "channel: wrong type, invalid value, or unknown member",
        ),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER"}, "device": ""}"#, "device: is empty"),
        (
            r#"{"shopper": {"id": "a", "type": "SHOPPER"}, "revoked": "s3cret"}"#,
            "revoked: wrong type, invalid value, or unknown member",
        ),
        (
            r#"{"shopper": {"id": "a", "type": "SHOPPER"}, "revoked": null}"#,
            "revoked: wrong type, invalid value, or unknown member",
        ),
        (r#"{"revoked": true, "revoked": true}"#, "wrong type, invalid value, or unknown member"),
    ] {
        let outcome = outcome(Kind::IdentityKey, text);
        assert!(outcome.contains(wanted) && !outcome.contains("s3cret"), "{text}: {outcome}");
    }
}

#[test]
fn an_answer_about_a_token_must_not_have_a_channel() {
    let text = r#"{"shopper": {"id": "a", "type": "SHOPPER"}, "channel": "RADIO"}"#;
    assert!(read(Kind::IdentityKey, text.as_bytes()).is_ok());
    assert!(outcome(Kind::RecognitionToken, text).starts_with("channel: "));
}

#[test]
fn a_revoked_key_may_have_a_shopper_or_none() {
    for text in [r#"{"revoked": true}"#, r#"{"revoked": true, "shopper": {"id": "a", "type": "ASSOCIATE"}}"#] {
        assert_eq!(read(Kind::IdentityKey, text.as_bytes()), Ok(Registration::Revoked), "{text}");
    }
}
