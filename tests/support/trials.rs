//! Tests that need a server. They are skipped if it is not installed.

use std::pin::Pin;

use libtest_mimic::{Completion, Failed, Trial};
use tokio::runtime::Builder;

/// A test function. Its argument is the subject of the test, such as a storage engine.
pub(crate) type Property<Subject> = fn(Subject) -> Pin<Box<dyn Future<Output = ()>>>;

/// A list of async functions with their names. The compiler reports a function that is not listed as dead code.
macro_rules! properties {
    ($($property:ident),* $(,)?) => {
        &[$((stringify!($property), (|subject| Box::pin($property(subject))) as $crate::support::trials::Property<_>)),*]
    };
}
pub(crate) use properties;

/// A list like that of `properties!`, of functions without an argument.
macro_rules! properties_without_argument {
    ($($property:ident),* $(,)?) => {
        &[$((stringify!($property), (|()| Box::pin($property())) as $crate::support::trials::Property<()>)),*]
    };
}
pub(crate) use properties_without_argument;

/// A test named `group::module::property`, with its own runtime. `missing` returns what must be installed, if anything
/// is missing.
pub(crate) fn trial<Subject: 'static>(
    group: &str,
    module: &str,
    (name, property): (&str, Property<Subject>),
    missing: fn() -> Option<String>,
    subject: impl FnOnce() -> Subject + Send + 'static,
) -> Trial {
    let module = module.rsplit("::").next().unwrap_or(module);
    Trial::ignorable_test(format!("{group}::{module}::{name}"), move || {
        if let Some(reason) = missing() {
            return ignore_or_fail(reason);
        }
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let subject = subject();
        runtime.block_on(property(subject));
        Ok(Completion::Completed)
    })
}

/// Ignores the test, or fails it if `CONNECTOR_TEST_SERVERS` is `required`.
fn ignore_or_fail(reason: String) -> Result<Completion, Failed> {
    match std::env::var("CONNECTOR_TEST_SERVERS").as_deref() {
        Ok("required") => Err(reason.into()),
        _ => Ok(Completion::ignored_with(reason)),
    }
}
