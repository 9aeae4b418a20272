//! Invalid `tls.*` settings: all mistakes are reported at the start, with valid values, and no key is repeated.

use crate::support::Ended;
use crate::support::certificates::{Authority, TlsFiles, text};
use crate::trials::{apply, test};

fn check_config(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let ended = Ended::run(&["check-config"], &[&[("storage.url", "memory:")], settings].concat());
    (ended.code, ended.stderr)
}

#[track_caller]
fn assert_refused(settings: &[(&str, &str)], parts: &[&str]) {
    let (code, error) = check_config(settings);
    assert_eq!(code, Some(64), "{settings:?}: {error}");
    for part in parts {
        assert!(error.contains(part), "{part:?} is missing from\n{error}");
    }
}

#[apply(test)]
fn certificate_and_key_are_required_together() {
    let files = TlsFiles::create(&Authority::new("public").server(), None);
    let [certificate, key] = ["certificate", "key"].map(|name| text(&files.path(name)));
    assert_refused(&[("tls.certificate", &certificate)], &["tls.key = \"\": is required with tls.certificate"]);
    assert_refused(&[("tls.key", &key)], &["tls.certificate = \"\": is required with tls.key"]);
    assert_refused(
        &[("tls.client_authority", &certificate)],
        &["tls.client_authority", "needs tls.certificate and tls.key"],
    );
    assert_eq!(check_config(&[("tls.certificate", &certificate), ("tls.key", &key)]).0, Some(0));
}

#[apply(test)]
fn unusable_files_are_refused_and_their_content_is_not_repeated() {
    let authority = Authority::new("public");
    let (server, other) = (authority.server(), authority.server());
    let files = TlsFiles::create(&server, Some(&authority));
    let names = ["certificate", "key", "client_authority"];
    let [certificate, key, clients] = names.map(|name| text(&files.path(name)));
    let settings = [
        ("tls.certificate", certificate.as_str()),
        ("tls.key", &key),
        ("tls.client_authority", &clients),
        ("log.level", "loud"), // reported together with the others
    ];
    let write = |name: &str, content: &str| std::fs::write(files.path(name), content).unwrap();
    write("key", &other.key);
    assert_refused(&settings, &[&format!("tls.key = {key:?}: does not match tls.certificate"), "log.level"]);
    write("key", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n");
    write("certificate", &server.key);
    write("client_authority", "");
    assert_refused(
        &settings,
        &[
            "must contain certificates in PEM",
            "must contain a private key in PEM, PKCS#8, PKCS#1 or SEC1, that is not encrypted",
            &format!("tls.client_authority = {clients:?}: must contain certificates"),
        ],
    );
    let error = check_config(&settings).1;
    assert!(!error.contains("c2VjcmV0") && !server.key.lines().any(|line| error.contains(line)), "{error}");
    for name in names {
        std::fs::remove_file(files.path(name)).unwrap();
    }
    let unreadable = [&certificate, &key, &clients].map(|path| format!("{path:?}: cannot be read: No such file"));
    assert_refused(&settings, &unreadable.each_ref().map(String::as_str));
}

/// An error would stop a connector whose clients do not check the expiry.
#[apply(test)]
fn an_expired_certificate_is_only_a_warning() {
    let authority = Authority::new("public");
    let files = TlsFiles::create(&authority.client_until("a server's", 1_600_000_000), None);
    let settings = files.settings();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let process = tokio::runtime::Runtime::new().unwrap().block_on(crate::support::Process::demo(&settings));
    process.signal("TERM");
    let log = process.wait_for_end().stderr;
    assert!(log.contains("tls.certificate has expired: clients refuse the connection"), "{log}");
}

/// The shopper's phone has no client certificate.
#[apply(test)]
fn the_shopper_api_cannot_share_a_port_that_requests_client_certificates() {
    let authority = Authority::new("public");
    let files = TlsFiles::create(&authority.server(), Some(&authority));
    let settings = files.settings();
    let tls = settings.iter().filter(|(name, _)| name.starts_with("tls."));
    let shared: Vec<_> = tls.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let demo = |settings: &[(&str, &str)]| Ended::run(&["demo"], settings);
    let refused = demo(&shared);
    assert_eq!(refused.code, Some(64), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("commerce.bind = \"\": must be a separate port with tls.client_authority"),
        "{}",
        refused.stderr
    );
    // Without client certificates or without the shopper API, one port is enough.
    let without: Vec<_> = shared.iter().copied().filter(|(name, _)| *name != "tls.client_authority").collect();
    assert_eq!(
        check_config(&[&without[..], &ENABLED].concat()).0,
        Some(0),
        "{}",
        check_config(&[&without[..], &ENABLED].concat()).1
    );
    assert_eq!(check_config(&shared).0, Some(0), "{}", check_config(&shared).1);
    assert_eq!(check_config(&[&shared[..], &ENABLED].concat()).0, Some(64));
    assert_eq!(check_config(&[&shared[..], &ENABLED, &[("commerce.bind", "127.0.0.1:1")]].concat()).0, Some(0));
}

/// The settings that `serve` requires for the shopper API.
const ENABLED: [(&str, &str); 4] = [
    ("commerce.enabled", "true"),
    ("commerce.authorization_key", "an-authorization-key-of-tests"),
    ("commerce.signing_keys", "c2lnbmluZyBrZXkgb2YgdGVzdHMsIDMyIGJ5dGVzIS4="),
    ("commerce.context_keys", "Y29udGV4dCBrZXkgb2YgdGVzdHMsIDMyIGJ5dGVzIS4="),
];
