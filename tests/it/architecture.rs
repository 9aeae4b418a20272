//! Imports point one way: a module imports only modules that `src/lib.rs` lists above it. The domain uses no I/O.

use crate::trials::{apply, test};
use std::fs;
use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let (folders, plain): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
    let sources = plain.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    sources.chain(folders.iter().flat_map(|folder| files(folder))).collect()
}

/// The words that follow `prefix` in a text.
fn words_after<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(prefix).skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
}

#[apply(test)]
fn modules_import_only_modules_listed_above_them() {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    let order: Vec<&str> = words_after(&lib, "mod ").collect();
    assert!(order.first() == Some(&"domain") && order.last() == Some(&"testing"), "{order:?}");
    let position = |module: &str| order.iter().position(|name| *name == module).unwrap_or_else(|| panic!("{module}?"));
    let mut imports = 0;
    for (below, module) in order.iter().enumerate() {
        let folder = source().join(module);
        let its = if folder.is_dir() { files(&folder) } else { vec![folder.with_extension("rs")] };
        for file in its {
            let text = fs::read_to_string(&file).unwrap();
            for known in words_after(&text, "crate::") {
                imports += 1;
                assert!(position(known) <= below, "{} imports {known}, which lib.rs lists below it", file.display());
            }
        }
    }
    assert!(imports > 50, "only {imports} imports found");
}

#[apply(test)]
fn domain_uses_no_io_no_clock_and_no_serialization() {
    for file in files(&source().join("domain")) {
        let text = fs::read_to_string(&file).unwrap();
        for foreign in ["tokio", "axum", "serde", "std::fs", "std::net", "async ", "::now()"] {
            assert!(!text.contains(foreign), "{} contains {foreign}", file.display());
        }
    }
}
