//! The API contract's three formats: UUIDs, Base64 and timestamps, in all valid spellings and many invalid ones.

use crate::trials::{apply, test};
use crate::{
    checks::*,
    support::{Server, scan},
};

#[apply(test)]
async fn uuids_of_any_case_version_and_variant_are_accepted() {
    let server = Server::demo(&[]).await;
    for uuid in [
        "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
        "A1B2C3D4-E5F6-7890-ABCD-EF1234567891",
        "a1B2c3D4-e5F6-7890-AbCd-eF1234567892",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "11111111-2222-3333-4444-555555555555",
        "018f0000-0000-f000-f000-000000000000",
        "018f0000-0000-0000-7000-000000000000",
    ] {
        for path in ["requestId", "authEvent.id"] {
            let answer = server.verify(&scan_with(path, uuid)).await;
            assert_granted(&answer, "shopper-uuid-001", "SHOPPER", &format!("{path} {uuid}"));
        }
    }
}

#[apply(test)]
async fn malformed_uuids_are_refused() {
    let server = Server::demo(&[]).await;
    for invalid in [
        "not-a-valid-uuid",
        "a1b2c3d4e5f67890abcdef1234567890",
        "{a1b2c3d4-e5f6-7890-abcd-ef1234567890}",
        "(a1b2c3d4-e5f6-7890-abcd-ef1234567890)",
        "urn:uuid:a1b2c3d4-e5f6-7890-abcd-ef1234567890",
        " a1b2c3d4-e5f6-7890-abcd-ef1234567890",
        "a1b2c3d4-e5f6-7890-abcd-ef1234567890 ",
        "a1b2c3d4-e5f6-7890-abcd-ef1234567890\n",
        "a1b2c3d4-e5f6-7890-abcd-ef1234567890\u{0}",
        "a1b2c3d4-e5f6-7890-abcd-ef123456789",
        "a1b2c3d4-e5f6-7890-abcd-ef12345678900",
        "a1b2c3d-4e5f6-7890-abcd-ef1234567890",
        "a1b2c3d4-e5f67-890-abcd-ef1234567890",
        "a1b2c3d4e-5f6-7890-abcd-ef1234567890",
        "a1b2c3d4-e5f6-7890-abcdef-1234567890",
        "a1b2c3d4-e5f6-7890-abcd-ef123456-890",
        "a1b2c3d4_e5f6_7890_abcd_ef1234567890",
        "g1b2c3d4-e5f6-7890-abcd-ef1234567890",
        "a1b2c3d4-e5f6-7890-abcd-ef12345678_0",
        "+1b2c3d4-e5f6-7890-abcd-ef1234567890",
        "０1b2c3d4-e5f6-7890-abcd-ef1234567890",
        "a1b2c3d4‐e5f6‐7890‐abcd‐ef1234567890",
        "a1b2c3d4-e5f6-7890-abcd",
        "obLD1OX2eJCrze8SNFZ4kA==",
    ] {
        let answer = server.verify(&scan_with("requestId", invalid)).await;
        assert_refused(&answer, 400, "Invalid requestId format", invalid);
        let answer = server.verify(&scan_with("authEvent.id", invalid)).await;
        assert_refused(&answer, 400, "Invalid authEvent.id format", invalid);
    }
}

#[apply(test)]
async fn base64_padding_is_optional() {
    let server = Server::demo(&[]).await;
    // Valid Base64 of every length modulo three. The message then depends on the decoded key.
    for (spellings, message) in [
        (["YWJj", "YWJj"], KEY_NOT_FOUND),
        (["YWI=", "YWI"], KEY_NOT_FOUND),
        (["YQ==", "YQ"], KEY_NOT_FOUND),
        (["+/+/", "++//"], INVALID_KEY),
        (["//8=", "//8"], INVALID_KEY),
        (["AA==", "AA"], INVALID_KEY),
    ] {
        for spelling in spellings {
            assert_refused(&server.verify(&scan_with("identityKey", spelling)).await, 401, message, spelling);
        }
    }
    for spelling in ["dmFsaWRfc2hvcHBlcl9rZXk=", "dmFsaWRfc2hvcHBlcl9rZXk"] {
        let answer = server.verify(&scan_with("identityKey", spelling)).await;
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", spelling);
    }
}

#[apply(test)]
async fn malformed_base64_is_refused() {
    let server = Server::demo(&[]).await;
    for (invalid, defect) in [
        ("", "empty"),
        ("!!!not-base64!!!", "not of the alphabet"),
        ("YQ=", "half the padding"),
        ("YQ===", "too much padding"),
        ("YWI==", "too much padding"),
        ("YWJj=", "unexpected padding"),
        ("YWJj====", "unexpected padding"),
        ("=", "padding alone"),
        ("====", "padding alone"),
        ("=YWJ", "padding in front"),
        ("YQ==YQ==", "padding in the middle"),
        ("YQ=a", "padding in the middle"),
        ("A", "six bits"),
        ("YWJjA", "six bits left over"),
        ("YWJjA===", "six bits left over, padded"),
        ("YR==", "trailing bits"),
        ("YR", "trailing bits, unpadded"),
        ("YWJ=", "trailing bits"),
        ("YWJ", "trailing bits, unpadded"),
        ("/x==", "trailing bits"),
        ("-_-_", "the URL alphabet"),
        ("__8=", "the URL alphabet"),
        (" YWJj", "white space in front"),
        ("YWJj ", "white space behind"),
        ("YWJj\n", "a line break"),
        ("YW Jj", "white space within"),
        ("YW\r\nJj", "a line break within"),
        ("YWI =", "white space before the padding"),
        ("YWJj\u{0}", "a NUL"),
        ("YWJj.", "a dot"),
        ("ＹWJj", "a wide letter"),
    ] {
        let answer = server.verify(&scan_with("identityKey", invalid)).await;
        assert_refused(&answer, 400, BAD_KEY, &format!("{defect}: {invalid:?}"));
    }
}

#[apply(test)]
async fn every_documented_timestamp_form_is_accepted() {
    let server = Server::demo(&[]).await;
    for time in [
        "2024-02-09T17:53:57Z",
        "2024-02-09T17:53:57+00:00",
        "2024-02-09T17:53:57.1Z",
        "2024-02-09T17:53:57.12Z",
        "2024-02-09T17:53:57.123Z",
        "2024-02-09T17:53:57.1234Z",
        "2024-02-09T17:53:57.12345Z",
        "2024-02-09T17:53:57.123456Z",
        "2024-02-09T17:53:57.1234567Z",
        "2024-02-09T17:53:57.12345678Z",
        "2024-02-09T17:53:57.123456789Z",
        "2024-02-09T17:53:57.000000000Z",
        "2024-02-09T17:53:57.999999999+00:00",
        "2024-02-09T00:00:00Z",
        "2024-02-09T23:59:59Z",
        "2024-02-29T12:00:00Z",
        "2000-02-29T12:00:00Z",
        "2024-01-31T12:00:00Z",
        "2024-04-30T12:00:00Z",
        "2024-12-31T23:59:59.999999999Z",
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "1816-03-30T05:56:08Z",
        "2262-04-11T23:47:17Z",
        "9999-12-31T23:59:59.999999999Z",
    ] {
        // An associate, because an associate has no payment method that could be expired.
        let body = set(scan_with("authEvent.timestamp", time), "identityKey", base64("associate_key"));
        assert_granted(&server.verify(&body).await, "associate-uuid-001", "ASSOCIATE", time);
    }
}

#[apply(test)]
async fn malformed_timestamps_are_refused() {
    let server = Server::demo(&[]).await;
    for invalid in [
        "not-a-timestamp",
        "2024-02-09",
        "17:53:57Z",
        "2024-02-09T17:53:57",
        "2024-02-09T17:53Z",
        "2024-02-09T17:53:57z",
        "2024-02-09t17:53:57Z",
        "2024-02-09 17:53:57Z",
        "2024-02-09_17:53:57Z",
        "2024-02-09T17:53:57 Z",
        " 2024-02-09T17:53:57Z",
        "2024-02-09T17:53:57Z ",
        "2024-02-09T17:53:57Z\n",
        "2024-02-09T17:53:57ZZ",
        "2024-02-09T17:53:57Z+00:00",
        "2024-02-09T17:53:57+01:00",
        "2024-02-09T17:53:57-08:00",
        "2024-02-09T17:53:57-00:00",
        "2024-02-09T17:53:57+00:01",
        "2024-02-09T17:53:57+0000",
        "2024-02-09T17:53:57+00",
        "2024-02-09T17:53:57+00:00:00",
        "2024-02-09T17:53:57\u{2212}00:00",
        "2024-02-09T17:53:57UTC",
        "2024-02-09T17:53:57GMT",
        "2024-02-09T17:53:57.Z",
        "2024-02-09T17:53:57.+00:00",
        "2024-02-09T17:53:57,5Z",
        "2024-02-09T17:53:57.1234567890Z",
        "2024-02-09T17:53:57.0000000000Z",
        "2024-02-09T17:53:57.-5Z",
        "2024-02-09T17:53:57.5.5Z",
        "2024-02-09T17:53:57.5 Z",
        "2024-02-09T17:53.5Z",
        "2024-02-09T17:53:60Z",
        "2024-02-09T17:53:61Z",
        "2016-12-31T23:59:60Z",
        "2024-02-09T17:60:00Z",
        "2024-02-09T24:00:00Z",
        "2024-02-09T25:00:00Z",
        "2024-02-30T12:00:00Z",
        "2023-02-29T12:00:00Z",
        "1900-02-29T12:00:00Z",
        "2024-04-31T12:00:00Z",
        "2024-00-09T12:00:00Z",
        "2024-13-09T12:00:00Z",
        "2024-02-00T12:00:00Z",
        "2024-01-32T12:00:00Z",
        "12024-02-09T17:53:57Z",
        "+2024-02-09T17:53:57Z",
        "-2024-02-09T17:53:57Z",
        "+12024-02-09T17:53:57Z",
        "224-02-09T17:53:57Z",
        "24-02-09T17:53:57Z",
        "2024-2-09T17:53:57Z",
        "2024-02-9T17:53:57Z",
        "2024-02-09T7:53:57Z",
        "2024-02-09T17:3:57Z",
        "2024-02-09T17:53:7Z",
        "2024-+2-09T17:53:57Z",
        "2024-02-09T17:53:+7Z",
        "20240209T175357Z",
        "2024-040T17:53:57Z",
        "2024-W06-5T17:53:57Z",
        "2024/02/09T17:53:57Z",
        "２024-02-09T17:53:57Z",
        "Fri, 09 Feb 2024 17:53:57 GMT",
        "1707501237",
    ] {
        let answer = server.verify(&scan_with("authEvent.timestamp", invalid)).await;
        assert_refused(&answer, 400, "Invalid authEvent.timestamp format", invalid);
    }
}

#[apply(test)]
async fn a_timestamp_is_not_compared_with_our_clock() {
    let server = Server::demo(&[]).await;
    for time in ["1999-01-01T00:00:00Z", "2099-12-31T23:59:59Z"] {
        let answer = server.verify(&scan_with("authEvent.timestamp", time)).await;
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", time);
    }
    server.clock.advance(std::time::Duration::from_secs(30 * 24 * 60 * 60));
    assert_granted(&server.verify(&scan()).await, "shopper-uuid-001", "SHOPPER", "a month later");
}
