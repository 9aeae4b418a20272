//! Why credentials do not hold. Outside it is one 401 whatever the reason; the log has the reason, and never the credentials.

/// What is wrong with a bearer token, a customer context or the key that asks for an anonymous token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// `X-Auth-Key` is not there or not the right one.
    WrongKey,
    /// There is no bearer token.
    NoToken,
    /// It is longer than any that is looked at.
    TokenTooLong,
    /// It is not three parts in Base64 of which two are JSON objects, or lacks what every token has.
    MalformedToken,
    /// Its algorithm is `none`, or not one that its issuer is to use.
    AlgorithmNotAllowed,
    /// It brings a key of its own, or demands what is not understood (`crit`).
    HeaderNotAllowed,
    /// It is a token of another kind, such as one that proves possession or ends a session.
    WrongType,
    /// Its issuer is nobody who is configured.
    UnknownIssuer,
    /// It is meant for somebody else.
    WrongAudience,
    /// Only together with a proof of possession would it hold.
    SenderConstrained,
    /// Its time is over.
    ExpiredToken,
    /// Its time has not come, or it says that it was made later than now.
    NotYetValid,
    /// It does not say who the customer is, or says so in a way that cannot be kept.
    NoCustomer,
    /// Its issuer has no such key.
    UnknownKey,
    /// Its signature does not fit.
    WrongSignature,
    /// There is no customer context.
    NoContext,
    /// The customer context was not made here, or for another token.
    WrongContext,
}

impl Refusal {
    /// The stable word for the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
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
