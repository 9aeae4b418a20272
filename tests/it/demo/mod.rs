//! The demo.

pub(crate) mod issuer;
pub(crate) mod page;
