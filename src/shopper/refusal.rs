//! The reasons why credentials are refused. The client always gets the same 401; the log has the reason, but never the
//! credentials.

/// The reason why a bearer token, a customer context or an `X-Auth-Key` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// `X-Auth-Key` is missing or wrong.
    WrongKey,
    /// The bearer token is missing.
    NoToken,
    /// The token is longer than the maximum.
    TokenTooLong,
    /// The token does not consist of three parts in Base64, of which two are JSON objects, or lacks a mandatory claim.
    MalformedToken,
    /// The token's algorithm is `none`, or not allowed for its issuer.
    AlgorithmNotAllowed,
    /// The token's header contains a key or the URL of one, or demands an extension that is not implemented (`crit`).
    HeaderNotAllowed,
    /// The token has another type, such as a proof of possession or a logout token.
    WrongType,
    /// The issuer is not configured.
    UnknownIssuer,
    /// The token is for another audience.
    WrongAudience,
    /// The token is valid only with a proof of possession.
    SenderConstrained,
    /// The token has expired.
    ExpiredToken,
    /// The token is not valid yet, or states that it was made later than now.
    NotYetValid,
    /// The token has no customer claim, or the claim is not a valid id.
    NoCustomer,
    /// The issuer has no such key.
    UnknownKey,
    /// The signature is wrong.
    WrongSignature,
    /// The customer context is missing.
    NoContext,
    /// The customer context was not made here, or was made for another token.
    WrongContext,
}

impl Refusal {
    /// The stable identifier in the log.
    #[must_use]
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::WrongKey => "wrong_auth_key",
            Self::NoToken => "no_token",
            Self::TokenTooLong => "token_too_long",
            Self::MalformedToken => "malformed_token",
            Self::AlgorithmNotAllowed => "algorithm_not_allowed",
            Self::HeaderNotAllowed => "token_header_not_allowed",
            Self::WrongType => "wrong_token_type",
            Self::UnknownIssuer => "unknown_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::SenderConstrained => "sender_constrained_token",
            Self::ExpiredToken => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::NoCustomer => "no_customer",
            Self::UnknownKey => "unknown_signing_key",
            Self::WrongSignature => "wrong_signature",
            Self::NoContext => "no_customer_context",
            Self::WrongContext => "wrong_customer_context",
        }
    }
}
