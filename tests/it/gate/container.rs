//! The restrictions of the containers: their user, what they may write, their capabilities. These tests read the
//! Dockerfile and the deployment files. The workflow runs the image under the same restrictions.

use crate::trials::{apply, test};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The lines of a file without comments and empty lines.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().map(|line| line.split(" #").next().unwrap().trim_end());
    lines.filter(|line| !line.is_empty() && !line.trim_start().starts_with('#')).map(str::to_owned).collect()
}

fn count(lines: &[String], what: &str) -> usize {
    lines.iter().filter(|line| line.trim().trim_start_matches("- ") == what).count()
}

#[apply(test)]
fn the_image_contains_only_the_binary_and_runs_it_as_an_unprivileged_user() {
    let dockerfile = lines(&root().join("Dockerfile"));
    let last = dockerfile.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    assert_eq!(dockerfile[last], "FROM scratch");
    let last = &dockerfile[last + 1..];
    let of = |instruction: &str| {
        let lines = last.iter().filter_map(move |line| line.strip_prefix(instruction)?.strip_prefix(' '));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of("USER"), ["65532:65532"]);
    assert_eq!(of("ENTRYPOINT"), [r#"["/identity-connector"]"#], "the binary itself, without a shell");
    assert_eq!(of("VOLUME"), ["/data"], "the only directory that the connector writes to");
    assert_eq!(of("COPY"), ["--from=build /rootfs /", "--from=build --chown=65532:65532 /data /data"]);
    assert_eq!((of("RUN").len(), of("ADD").len()), (0, 0));
    let text = dockerfile.join("\n");
    assert!(
        !text.contains("ARG CONNECTOR__") && !text.contains("TOKEN") && !text.contains("_KEY"),
        "no secret is built in"
    );
}

/// A `CONNECTOR__…` variable in the image would override the user's configuration file, and would also apply to `demo`.
#[apply(test)]
fn the_image_sets_no_setting_but_the_default_address() {
    let dockerfile = lines(&root().join("Dockerfile"));
    let environment: Vec<&str> = dockerfile.iter().filter_map(|line| line.strip_prefix("ENV ")).collect();
    assert_eq!(environment, ["CONNECTOR_DEFAULT_BIND=0.0.0.0:8080"]);
    assert_eq!(count(&dockerfile, "EXPOSE 8080 8085 8443 9090"), 1, "API, shopper's side, API with TLS, management");
}

#[apply(test)]
fn the_image_carries_licences_and_commit() {
    let text = lines(&root().join("Dockerfile")).join("\n");
    assert!(text.contains("cp LICENSE /rootfs/licenses/"));
    assert!(text.contains("third-party.sh /rootfs/licenses"));
    let last = text.split("FROM scratch").nth(1).unwrap();
    assert!(last.contains("ARG CONNECTOR_COMMIT"), "an ARG is valid in the stage that declares it only");
    for label in [
        r#"title="identity-connector""#,
        r#"revision="$CONNECTOR_COMMIT""#,
        concat!("licenses=\"", env!("CARGO_PKG_LICENSE"), "\""),
    ] {
        assert!(last.contains(&format!("org.opencontainers.image.{label}")), "{label}");
    }
}

#[apply(test)]
fn every_pod_runs_unprivileged_with_a_read_only_root() {
    let folder = fs::read_dir(root().join("deploy/kubernetes")).unwrap().map(|entry| entry.unwrap().path());
    let mut pods = 0;
    for path in folder.chain([root().join("deploy/kubernetes-sqlite.yaml")]) {
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let lines = lines(&path);
        for forbidden in
            ["privileged: true", "Unconfined", "hostNetwork", "hostPID", "hostIPC", "hostPath", "add:", "runAsUser: 0"]
        {
            assert!(!lines.iter().any(|line| line.contains(forbidden)), "{forbidden} in {}", path.display());
        }
        let (templates, containers) = (count(&lines, "template:"), count(&lines, "containers:"));
        assert_eq!(templates, containers, "{}", path.display());
        for of_a_pod in [
            "runAsNonRoot: true",
            "runAsUser: 65532",
            "runAsGroup: 65532",
            "seccompProfile: { type: RuntimeDefault }",
            "automountServiceAccountToken: false",
        ] {
            assert_eq!(count(&lines, of_a_pod), templates, "{of_a_pod} in {}", path.display());
        }
        let images = lines.iter().filter(|line| line.trim().starts_with("image: ")).count();
        for of_a_container in
            ["readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false", "capabilities: { drop: [ALL] }"]
        {
            assert_eq!(count(&lines, of_a_container), images, "{of_a_container} in {}", path.display());
        }
        pods += templates;
    }
    assert_eq!(pods, 2);
}

#[apply(test)]
fn every_compose_service_runs_unprivileged_with_a_read_only_root() {
    let lines = lines(&root().join("deploy/compose.yaml"));
    let hardened = ["read_only: true", "cap_drop: [ALL]", r#"security_opt: ["no-new-privileges:true"]"#];
    for what in hardened {
        assert_eq!(count(&lines, what), 1, "{what}");
    }
    let under = |name: &str| {
        let begin = lines.iter().position(|line| line == name).unwrap_or_else(|| panic!("{name}?")) + 1;
        lines[begin..].iter().take_while(|line| line.starts_with(' ')).cloned().collect::<Vec<_>>()
    };
    let block = under("x-hardened: &hardened");
    assert!(hardened.iter().all(|what| count(&block, what) == 1), "{block:?}");
    assert_eq!(count(&under("x-connector: &connector"), "<<: *hardened"), 1);
    let services = under("services:");
    let is_name = |line: &&String| line.starts_with("  ") && !line.starts_with("   ");
    let merged = count(&services, "<<: *hardened") + count(&services, "<<: *connector");
    assert_eq!(services.iter().filter(is_name).count(), merged, "every service has the restrictions");
    for file in ["compose.yaml", "deploy/compose.yaml", "deploy/compose.shoppers.yaml"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for forbidden in [
            "privileged",
            "cap_add",
            "read_only: false",
            "network_mode",
            "pid: host",
            "docker.sock",
            "unconfined",
            "user: \"0",
        ] {
            assert!(!text.contains(forbidden), "{forbidden} in {file}");
        }
    }
}

/// `docker compose up` in a clone: the demo, reachable from this machine only.
#[apply(test)]
fn the_demo_composition_publishes_on_loopback_only() {
    let demo = lines(&root().join("compose.yaml"));
    for what in ["read_only: true", "cap_drop: [ALL]", r#"security_opt: ["no-new-privileges:true"]"#] {
        assert_eq!(count(&demo, what), 1, "{what}");
    }
    assert_eq!(count(&demo, "command: [demo, --publish]"), 1);
    assert_eq!(count(&demo, r#"ports: ["127.0.0.1:8080:8080", "127.0.0.1:9090:9090"]"#), 1);
    assert!(!demo.iter().any(|line| line.contains("restart")), "a demo that fails is not started again");
    let name = |lines: &[String]| lines.iter().find(|line| line.starts_with("name: ")).cloned();
    let compose = lines(&root().join("deploy/compose.yaml"));
    assert_ne!(name(&demo), name(&compose), "the demo must not replace the containers of compose.yaml");
}

/// The workflow has a container engine: it runs the image under the restrictions that these files state.
#[apply(test)]
fn the_workflow_runs_the_image_as_documented() {
    let workflow = fs::read_to_string(root().join(".github/workflows/ci.yml")).unwrap();
    for what in ["--read-only", "--cap-drop ALL", "--security-opt no-new-privileges"] {
        assert!(workflow.contains(what), "{what}");
    }
}
