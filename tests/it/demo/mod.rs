//! The demo.

pub(crate) mod demo;
pub(crate) mod demo_issuer;
