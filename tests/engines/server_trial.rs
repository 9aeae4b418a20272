//! A trial that needs a server: ignored or failed where that is not installed.

use libtest_mimic::{Completion, Failed, Trial};

/// Set to `required` where every server must be there.
const SERVERS: &str = "CONNECTOR_TEST_SERVERS";

/// What a trial needs, or the words that say what is missing.
pub(crate) type Needed = Result<(), &'static str>;

/// A trial on a runtime of its own.
pub(crate) fn trial<F: Future<Output = ()> + 'static>(name: &str, needed: Needed, test: fn() -> F) -> Trial {
    match needed {
        Ok(()) => Trial::test(name, move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(2).enable_all().build()?.block_on(test());
            Ok(())
        }),
        Err(missing) if std::env::var(SERVERS).is_ok_and(|servers| servers == "required") => {
            Trial::test(name, move || Err(Failed::from(format!("{missing}, and {SERVERS} is set to required"))))
        }
        Err(missing) => Trial::ignorable_test(name, move || Ok(Completion::ignored_with(missing))),
    }
}

/// Trials by the names of their functions.
macro_rules! trials {
    ($topic:literal, $needed:expr, [$($test:ident),+ $(,)?]) => {
        vec![$($crate::server_trial::trial(concat!($topic, "::", stringify!($test)), $needed, $test)),+]
    };
}
pub(crate) use trials;
