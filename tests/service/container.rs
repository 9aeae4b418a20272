//! What is promised of containers: whose process it is, what it may write, what the system lets it do. The files that make and run them say
//! so; that a container really runs like that is tried out where there is a container engine, in the workflow.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// What a file says, without comments and empty lines.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().map(|line| line.split(" #").next().unwrap().trim_end());
    lines.filter(|line| !line.is_empty() && !line.trim_start().starts_with('#')).map(str::to_owned).collect()
}

fn count(lines: &[String], what: &str) -> usize {
    lines.iter().filter(|line| line.trim().trim_start_matches("- ") == what).count()
}

#[test]
fn the_image_holds_the_binary_alone_and_runs_it_as_nobody() {
    let dockerfile = lines(&root().join("Dockerfile"));
    let last = dockerfile.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    assert_eq!(dockerfile[last], "FROM scratch");
    let last = &dockerfile[last + 1..];
    let of = |instruction: &str| {
        let lines = last.iter().filter_map(move |line| line.strip_prefix(instruction)?.strip_prefix(' '));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of("USER"), ["65532:65532"]);
    assert_eq!(of("ENTRYPOINT"), [r#"["/identity-connector"]"#], "itself, without a shell");
    assert_eq!(of("VOLUME"), ["/data"], "the only place that is written");
    assert_eq!(of("COPY"), ["--from=build /rootfs /", "--from=build --chown=65532:65532 /data /data"]);
    assert_eq!((of("RUN").len(), of("ADD").len()), (0, 0));
    let text = dockerfile.join("\n");
    assert!(
        !text.contains("ARG CONNECTOR__") && !text.contains("TOKEN") && !text.contains("_KEY"),
        "no secret is built in"
    );
}

#[test]
fn every_pod_is_nobodys_reads_only_and_may_do_nothing() {
    let folder = fs::read_dir(root().join("deploy/kubernetes")).unwrap().map(|entry| entry.unwrap().path());
    let mut pods = 0;
    for path in folder.chain([root().join("deploy/kubernetes-sqlite.yaml")]) {
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let lines = lines(&path);
        for never in
            ["privileged: true", "Unconfined", "hostNetwork", "hostPID", "hostIPC", "hostPath", "add:", "runAsUser: 0"]
        {
            assert!(!lines.iter().any(|line| line.contains(never)), "{never} in {}", path.display());
        }
        let (its, containers) = (count(&lines, "template:"), count(&lines, "containers:"));
        assert_eq!(its, containers, "{}", path.display());
        for of_a_pod in [
            "runAsNonRoot: true",
            "runAsUser: 65532",
            "runAsGroup: 65532",
            "seccompProfile: { type: RuntimeDefault }",
            "automountServiceAccountToken: false",
        ] {
            assert_eq!(count(&lines, of_a_pod), its, "{of_a_pod} in {}", path.display());
        }
        let images = lines.iter().filter(|line| line.trim().starts_with("image: ")).count();
        for of_a_container in
            ["readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false", "capabilities: { drop: [ALL] }"]
        {
            assert_eq!(count(&lines, of_a_container), images, "{of_a_container} in {}", path.display());
        }
        pods += its;
    }
    assert_eq!(pods, 2);
}

#[test]
fn every_service_of_the_composition_reads_only_and_may_do_nothing() {
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
    assert_eq!(services.iter().filter(is_name).count(), merged, "each of them");
    for file in ["deploy/compose.yaml", "deploy/compose.shoppers.yaml"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for never in [
            "privileged",
            "cap_add",
            "read_only: false",
            "network_mode",
            "pid: host",
            "docker.sock",
            "unconfined",
            "user: \"0",
        ] {
            assert!(!text.contains(never), "{never} in {file}");
        }
    }
}

/// Where there is a container engine, it is run as these files say.
#[test]
fn the_workflow_runs_the_image_as_it_is_promised() {
    let workflow = fs::read_to_string(root().join(".github/workflows/ci.yml")).unwrap();
    for what in ["--read-only", "--cap-drop ALL", "--security-opt no-new-privileges"] {
        assert!(workflow.contains(what), "{what}");
    }
}
