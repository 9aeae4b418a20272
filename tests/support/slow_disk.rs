//! A slow disk: a library that delays each `fsync` of the connector's process.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

/// A library that replaces `fsync` and `fdatasync` by slow ones.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int slowly(const char *name, int file) {
  long milliseconds = 0;
  FILE *delay = fopen(getenv("SLOW_DISK"), "r");
  if (delay) {
    if (fscanf(delay, "%ld", &milliseconds) != 1) milliseconds = 0;
    fclose(delay);
  }
  struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
  nanosleep(&time, NULL);
  return ((int (*)(int)) dlsym(RTLD_NEXT, name))(file);
}

int fsync(int file) { return slowly("fsync", file); }
int fdatasync(int file) { return slowly("fdatasync", file); }
"#;

/// A simulated slow disk, for a process that is started with its variables.
pub(crate) struct SlowDisk(TempDir);

impl SlowDisk {
    /// Without a delay at first. Needs a C compiler, as SQLite does.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("slow.c"), LIBRARY).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o", "slow.so", "slow.c", "-ldl"]).current_dir(folder.path());
        assert!(compiler.status().unwrap().success(), "cc");
        let disk = Self(folder);
        disk.set_delay(Duration::ZERO);
        disk
    }

    /// Sets the delay of a write from now on.
    pub(crate) fn set_delay(&self, time: Duration) {
        // A rename is atomic, so the library never reads half a number.
        std::fs::write(self.file("aside"), time.as_millis().to_string()).unwrap();
        std::fs::rename(self.file("aside"), self.file("delay")).unwrap();
    }

    pub(crate) fn variables(&self) -> [(String, String); 2] {
        [("LD_PRELOAD", "slow.so"), ("SLOW_DISK", "delay")]
            .map(|(name, file)| (name.to_owned(), self.file(file).to_str().unwrap().to_owned()))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
