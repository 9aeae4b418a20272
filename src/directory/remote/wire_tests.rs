use super::*;

fn said(kind: Kind, text: &str) -> String {
    match read(kind, text.as_bytes()) {
        Ok(registration) => format!("{registration:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_never_with_what_stands_there() {
    for (text, wanted) in [
        ("", "is not one JSON object"),
        ("s3cret", "is not one JSON object"),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER"}} {}"#, "is not one JSON object"),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER""#, "is not one JSON object"),
        ("\u{feff}{}", "is not one JSON object"),
        ("[]", "is not one JSON object"),
        ("[null, null, null, true]", "is not one JSON object"),
        ("{}", "shopper: is missing"),
        ("null", "is not one JSON object"),
        (r#""s3cret""#, "is not one JSON object"),
        (r#"{"s3cret": 1, "revoked": true}"#, "the object: is not as documented"),
        (r#"{"shopper": {"s3cret": 1}}"#, "shopper: is not as documented"),
        (r#"{"shopper": {"id": "a", "type": "s3cret"}}"#, "shopper.type: is not as documented"),
        (r#"{"shopper": {"id": 7, "type": "SHOPPER"}}"#, "shopper.id: is not as documented"),
        (r#"{"shopper": {"id": "", "type": "SHOPPER"}}"#, "shopper.id: is empty"),
        (r#"{"shopper": {"id": "s3cret\u0000", "type": "SHOPPER"}}"#, "shopper.id: must not contain U+0000"),
        (r#"{"shopper": {"type": "SHOPPER"}}"#, "shopper.id: is empty"),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER", "account": "s3cret"}}"#, "shopper.account: is not"),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER", "paymentMethod": {}}}"#, "shopper.paymentMethod: is not"),
        (
            r#"{"shopper": {"id": "a", "type": "SHOPPER", "paymentMethod": {"lastMonth": "s3cret"}}}"#,
            "shopper.paymentMethod.lastMonth: must be a month",
        ),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER", "devices": ["s3cret"]}}"#, "shopper.devices: has no place here"),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER"}, "channel": "s3cret"}"#, "channel: is not as documented"),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER"}, "device": ""}"#, "device: is empty"),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER"}, "revoked": "s3cret"}"#, "revoked: is not as documented"),
        (r#"{"shopper": {"id": "a", "type": "SHOPPER"}, "revoked": null}"#, "revoked: is not as documented"),
        (r#"{"revoked": true, "revoked": true}"#, "is not as documented"),
    ] {
        let said = said(Kind::IdentityKey, text);
        assert!(said.contains(wanted) && !said.contains("s3cret"), "{text}: {said}");
    }
}

#[test]
fn a_token_is_not_limited_to_a_channel_as_in_a_directory_file() {
    let text = r#"{"shopper": {"id": "a", "type": "SHOPPER"}, "channel": "RADIO"}"#;
    assert!(read(Kind::IdentityKey, text.as_bytes()).is_ok());
    assert!(said(Kind::RecognitionToken, text).starts_with("channel: "));
}

#[test]
fn what_is_revoked_may_belong_to_somebody_or_nobody() {
    for text in [r#"{"revoked": true}"#, r#"{"revoked": true, "shopper": {"id": "a", "type": "ASSOCIATE"}}"#] {
        assert_eq!(read(Kind::IdentityKey, text.as_bytes()), Ok(Registration::Revoked), "{text}");
    }
}
