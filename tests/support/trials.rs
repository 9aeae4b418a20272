//! Trials that need a server which may not be installed, and what becomes of them then.

use std::pin::Pin;

use libtest_mimic::{Completion, Failed, Trial};
use tokio::runtime::Builder;

/// What a trial runs, given what it is about.
pub(crate) type Property<Subject> = fn(Subject) -> Pin<Box<dyn Future<Output = ()>>>;

/// Async functions with their names. One that is left out is dead code, which the compiler says.
macro_rules! properties {
    ($($property:ident),* $(,)?) => {
        &[$((stringify!($property), (|subject| Box::pin($property(subject))) as $crate::support::trials::Property<_>)),*]
    };
}
pub(crate) use properties;

/// The same for those that need no subject.
macro_rules! lone_properties {
    ($($property:ident),* $(,)?) => {
        &[$((stringify!($property), (|()| Box::pin($property())) as $crate::support::trials::Property<()>)),*]
    };
}
pub(crate) use lone_properties;

/// A trial named `group::module::property`, on a runtime of its own. `missing` says what it would need and this machine has not.
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
            return without(reason);
        }
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let subject = subject();
        runtime.block_on(property(subject));
        Ok(Completion::Completed)
    })
}

/// Ignored, or failed where everything was to be here.
fn without(reason: String) -> Result<Completion, Failed> {
    match std::env::var("CONNECTOR_TEST_SERVERS").as_deref() {
        Ok("required") => Err(reason.into()),
        _ => Ok(Completion::ignored_with(reason)),
    }
}
