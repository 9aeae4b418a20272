//! The demo: its page, the endpoints of that page, and its identity provider.

pub(crate) mod issuer;
pub(crate) mod page;
