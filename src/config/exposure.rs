//! Checks settings that are valid separately but unsafe together: ports that are open to the network without
//! authentication, and ports that must be separate.

use std::net::SocketAddr;

use super::layers::CALLERS;
use super::reader::Reader;
use super::{Config, Mode};

/// Reports every unsafe combination.
pub(super) fn check(reader: &mut Reader, mode: Mode, config: &Config) {
    let overlap = |first: SocketAddr, second: SocketAddr| {
        let same_ip = first.ip() == second.ip() || first.ip().is_unspecified() || second.ip().is_unspecified();
        first.port() != 0 && first.port() == second.port() && same_ip
    };
    if overlap(config.server.bind, config.management.bind) {
        reader.refuse("management.bind", "must not be the API's port");
    }
    let shoppers = config.commerce.as_ref().and_then(|commerce| commerce.bind);
    if shoppers.is_some_and(|bind| overlap(bind, config.server.bind) || overlap(bind, config.management.bind)) {
        reader.refuse(
            "commerce.bind",
            "must differ from server.bind and management.bind, or be empty to share the API's port",
        );
    }
    let requests_certificates = config.tls.as_ref().is_some_and(|tls| tls.client_authority.is_some());
    if requests_certificates && config.commerce.is_some() && shoppers.is_none() {
        reader.refuse(
            "commerce.bind",
            "must be a separate port with tls.client_authority: phones have no client certificates, and on a shared port every client \
             is asked for one",
        );
    }

    let may_share = reader.boolean("commerce.share_port");
    let shares = config.commerce.is_some() && shoppers.is_none() && !config.server.bind.ip().is_loopback();
    if mode == Mode::Serve && shares && !may_share {
        reader.refuse(
            "commerce.bind",
            "must be a separate port when server.bind is not loopback: on a shared port, phones can use up the connections that gates \
             need. Set commerce.share_port = true only behind a proxy that limits them",
        );
    }
    let allowed = reader.boolean("server.allow_unauthenticated");
    let (api, management) = (config.server.bind.ip().is_loopback(), config.management.bind.ip().is_loopback());
    if mode == Mode::PublishedDemo {
        return;
    }
    if mode == Mode::Demo {
        let loopback = "must be a loopback address such as 127.0.0.1 or [::1], because the demo's keys are public: pass --publish \
                        to listen on other addresses, with random keys for administration, apps and the page";
        if !api {
            reader.refuse("server.bind", loopback);
        }
        if !management {
            reader.refuse("management.bind", loopback);
        }
        if shoppers.is_some_and(|bind| !bind.ip().is_loopback()) {
            reader.refuse("commerce.bind", loopback);
        }
        return;
    }
    let no_callers = config.server.callers.is_empty() && reader.sections(CALLERS).is_empty();
    if !api && no_callers && !allowed {
        reader.refuse(
            "server.bind",
            "is not loopback, and no caller is configured: configure server.callers, or bind to loopback, or set \
             server.allow_unauthenticated = true behind a proxy that authenticates Amazon's gateway",
        );
    }
    if allowed && !no_callers {
        reader.refuse("server.allow_unauthenticated", "cannot be combined with server.callers: remove one of them");
    }
    if !management && config.management.token.is_none() {
        reader.refuse(
            "management.bind",
            "is not loopback: set management.token (or management.token_file), or bind to loopback",
        );
    }
}
