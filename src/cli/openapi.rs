//! `openapi`: prints the document that the management port serves at `/openapi.json`.

use std::process::ExitCode;

use super::print;
use crate::admin::openapi::document;

pub(super) fn run() -> ExitCode {
    print(&document());
    ExitCode::SUCCESS
}
