//! Sets the commit that the binary shows: `CONNECTOR_COMMIT` if it is set (images are built without `.git`), otherwise
//! git's HEAD.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=CONNECTOR_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var("CONNECTOR_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(from_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CONNECTOR_COMMIT={commit}");
}

fn from_git() -> Option<String> {
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if std::path::Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
