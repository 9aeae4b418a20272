//! Tests that are reported as ignored if what they need is not installed.

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Builder;

/// A test with a runtime of its own. `missing` returns what must be installed, if anything is missing. `test` starts
/// the test; its future runs on the runtime.
pub(crate) fn trial<Test: Future<Output = ()>>(
    name: String,
    missing: fn() -> Option<String>,
    test: impl FnOnce() -> Test + Send + 'static,
) -> Trial {
    plain_trial(name, missing, || {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async { test().await });
    })
}

/// A test without a runtime.
pub(crate) fn plain_trial(
    name: String,
    missing: fn() -> Option<String>,
    test: impl FnOnce() + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || match missing() {
        Some(reason) => ignore_or_fail(reason),
        None => {
            test();
            Ok(Completion::Completed)
        }
    })
}

/// Ignores the test, or fails it if `CONNECTOR_TEST_SERVERS` is `required`.
fn ignore_or_fail(reason: String) -> Result<Completion, Failed> {
    match std::env::var("CONNECTOR_TEST_SERVERS").as_deref() {
        Ok("required") => Err(reason.into()),
        _ => Ok(Completion::ignored_with(reason)),
    }
}

/// The arguments of the command line. Without `--test-threads`, four tests run on each processor, since a test waits
/// most of its time: for a server, a time-out, or a child process.
pub(crate) fn arguments() -> Arguments {
    let mut arguments = Arguments::from_args();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    arguments.test_threads = arguments.test_threads.or(Some(processors * 4));
    arguments
}
