//! Reload of certificate and authorities while connections are open.

use super::{Port, Secure, ask_once, assert_answered};
use crate::support::certificates::{Authority, VERSIONS};
use crate::trials::{apply, test};

#[apply(test)]
async fn new_connections_get_the_new_certificate_and_open_ones_continue() {
    let Port { public: old, files, server, .. } = Port::start().await;
    let new = Authority::new("new");
    let tls = server.tls.clone().unwrap();
    let mut open = Secure::connect(&server, &old.client_config(None, VERSIONS)).await.unwrap();
    assert_answered(open.ask().await, "before the reload");
    assert!(!tls.reload().unwrap(), "nothing has changed");

    files.write(&new.server());
    assert!(tls.reload().unwrap());
    let head = open.ask().await.unwrap();
    assert!(!head.to_lowercase().contains("connection: close"), "{head}");
    assert_answered(open.ask().await, "the open connection, afterwards");
    assert_answered(ask_once(&server, &new.client_config(None, VERSIONS)).await, "a new connection");
    assert!(ask_once(&server, &old.client_config(None, VERSIONS)).await.is_err(), "the old certificate is not used");
}

#[apply(test)]
async fn failed_reload_keeps_the_previous_files() {
    let port = Port::asking_for_certificates().await;
    let (files, second) = (&port.files, port.public.server());
    let tls = port.server.tls.clone().unwrap();
    let still_works = async || port.assert_answers("the previous certificate is still used").await;

    // One file is replaced, and the other is not yet.
    std::fs::write(files.path("certificate"), &second.certificate).unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("tls.key") && error.contains("does not match tls.certificate"), "{error}");
    still_works().await;
    std::fs::write(files.path("key"), &second.key[..second.key.len() / 2]).unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("must contain a private key in PEM"), "{error}");
    assert!(!second.key.lines().any(|line| error.contains(line)), "the error contains no key: {error}");
    still_works().await;
    std::fs::write(files.path("client_authority"), "nothing of the kind").unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("tls.key") && error.contains("tls.client_authority"), "both mistakes are reported: {error}");
    std::fs::remove_file(files.path("certificate")).unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("cannot be read"));
    still_works().await;

    files.write(&second);
    files.write_authority(&Authority::new("others").pem());
    assert!(tls.reload().unwrap(), "all files are valid");
    still_works().await;
}

#[apply(test)]
async fn client_of_a_removed_authority_is_refused() {
    let Port { public, clients: old, files, server } = Port::asking_for_certificates().await;
    let new = Authority::new("new");
    let tls = server.tls.clone().unwrap();
    let [old_client, new_client] =
        [&old, &new].map(|authority| public.client_config(Some(&authority.client("gateway")), VERSIONS));
    let mut open = Secure::connect(&server, &old_client).await.unwrap();
    assert_answered(open.ask().await, "before the reload");
    assert!(ask_once(&server, &new_client).await.is_err(), "the new authority is not loaded yet");

    // To change an authority, first trust both: no client notices.
    files.write_authority(&format!("{}{}", old.pem(), new.pem()));
    assert!(tls.reload().unwrap());
    let head = open.ask().await.unwrap();
    assert!(!head.to_lowercase().contains("connection: close"), "{head}");
    assert_answered(ask_once(&server, &new_client).await, "a client of the new authority");

    files.write_authority(&new.pem());
    assert!(tls.reload().unwrap());
    let head = open.ask().await.unwrap();
    assert!(head.to_lowercase().contains("connection: close"), "its certificate is no longer valid: {head}");
    assert!(open.ask().await.is_err());
    assert!(ask_once(&server, &old_client).await.is_err(), "nor on a new connection");
    assert_answered(ask_once(&server, &new_client).await, "a client of the new authority");
}
