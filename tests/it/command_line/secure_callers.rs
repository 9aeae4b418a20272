//! Callers that are identified by a client certificate, and authorities that change while the connector runs.

use crate::trials::{apply, test};

use rcgen::{CertificateParams, DnType, KeyPair};

use crate::command_line::tls::Connector;
use crate::support::certificates::{Authority, Certified};
use crate::support::{file_with, wait_until};

/// Starts a connector with one caller, which is identified by its certificate.
async fn start(clients: &str, subject: &str) -> Connector {
    let rows = serde_json::json!({
        "stores": [{ "id": "STORE-001" }],
        "shoppers": [{ "id": "v", "type": "ASSOCIATE" }],
        "identityKeys": [{ "key": "valid_shopper_key", "shopper": "v" }],
    });
    let directory = file_with(rows.to_string());
    let settings = [
        ("server.callers.gateway.certificate_subject", subject),
        ("log.level", "trace"),
        ("storage.url", "memory:"),
        ("directory.file", directory.path().to_str().unwrap()),
    ];
    Connector::start("serve", clients, &settings).await
}

/// Whether the gate opens.
fn opens(connector: &Connector, certified: Option<&Certified>) -> bool {
    connector.gate(certified) == Some(0)
}

async fn wait_until_gate_opens(connector: &Connector, certified: &Certified, is_open: bool) {
    wait_until("the gate", async || opens(connector, Some(certified)) == is_open).await;
}

#[apply(test)]
async fn only_the_configured_subject_and_authority_are_accepted() {
    let clients = Authority::new("clients");
    let connector = start(&clients.pem(), "CN=gateway,O=Example").await;
    let gateway = clients.client("gateway");
    assert!(opens(&connector, Some(&gateway)));
    assert!(!opens(&connector, None), "no certificate");
    assert!(!opens(&connector, Some(&clients.client("another"))), "another subject of the same authority");
    assert!(!opens(&connector, Some(&connector.public.client("gateway"))), "the same subject of another authority");

    let url = connector.url();
    let probe = connector.run(&["check-config", "--probe", &url, "--store", "STORE-001"], Some(&gateway));
    assert_eq!(probe.code, Some(0), "{}{}", probe.stdout, probe.stderr);
    for line in ["ok  without credentials     401", "ok  with these credentials  accepted", "ok  a whole scan"] {
        assert!(probe.stdout.contains(line), "{line}\n{}", probe.stdout);
    }

    let log = connector.process.stop().stderr;
    let cause = r#"no caller has client certificate subject \"CN=another,O=Example\""#;
    assert!(log.contains(cause), "the operator needs it for the configuration\n{log}");
}

#[apply(test)]
async fn authorities_and_certificates_are_reloaded_without_a_restart() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let connector = start(&old.pem(), "CN=gateway,O=Example").await;
    let (before, after) = (old.client("gateway"), new.client("gateway"));
    assert!(opens(&connector, Some(&before)) && !opens(&connector, Some(&after)));
    connector.files.write_authority(&[old.pem(), new.pem()].concat());
    wait_until_gate_opens(&connector, &after, true).await;
    assert!(opens(&connector, Some(&before)), "the old authority is still accepted");
    connector.files.write_authority("no certificate");
    connector.process.wait_for_log("reload failed; keeping the previous version");
    assert!(opens(&connector, Some(&after)), "an unusable file changes nothing");
    connector.files.write_authority(&new.pem());
    wait_until_gate_opens(&connector, &before, false).await;
    assert!(opens(&connector, Some(&after)));

    // From now on the server has a certificate of a third authority.
    let other_authority = Authority::new("other");
    connector.files.write(&other_authority.server());
    connector.process.signal("HUP");
    wait_until_gate_opens(&connector, &after, false).await; // the gate does not trust that authority yet
    std::fs::write(connector.folder.path().join("public"), other_authority.pem()).unwrap();
    assert!(opens(&connector, Some(&after)));
}

/// An AWS API Gateway has such a certificate.
#[apply(test)]
async fn a_self_signed_certificate_may_be_its_own_authority() {
    let certified = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap().pem();
        Certified { certificate, key: key.serialize_pem() }
    };
    let gateway = certified("ApiGateway");
    let connector = start(&gateway.certificate, "CN=ApiGateway").await;
    assert!(opens(&connector, Some(&gateway)));
    assert!(
        !opens(&connector, Some(&certified("ApiGateway"))),
        "another self-signed certificate with the same subject"
    );
}
