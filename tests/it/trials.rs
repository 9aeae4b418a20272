//! The attributes that make a function a test: `#[apply(test)]`, `#[apply(on_every_engine)]` and others. Each registers
//! its function, and `main` runs what is registered.
//!
//! A test that needs a server is ignored, with the reason, if the server is not installed.

use std::pin::Pin;

use libtest_mimic::Trial;

use crate::engine::{Database, Engine};
use crate::support::trials::trial;
use crate::support::{Postgres, Redis};

/// Applies one of the macros below to a function.
pub(crate) use macro_rules_attribute::apply;

/// The tests that a function stands for.
pub(crate) struct Registered(pub(crate) fn() -> Vec<Trial>);

inventory::collect!(Registered);

/// All registered tests.
pub(crate) fn all() -> Vec<Trial> {
    inventory::iter::<Registered>.into_iter().flat_map(|registered| (registered.0)()).collect()
}

/// What a test is about, such as a storage engine: its name, how it is made, and what must be installed for it, if
/// anything is missing.
pub(crate) struct Subject<T> {
    pub(crate) name: &'static str,
    pub(crate) make: fn() -> T,
    pub(crate) missing: fn() -> Option<String>,
}

const fn engine(name: &'static str, make: fn() -> Engine, missing: fn() -> Option<String>) -> Subject<Engine> {
    Subject { name, make, missing }
}

pub(crate) const MEMORY: Subject<Engine> = engine("memory", || Engine::Memory, || None);
pub(crate) const SQLITE: Subject<Engine> = engine("sqlite", || Engine::Sqlite, || None);
pub(crate) const POSTGRES: Subject<Engine> = engine("postgres", || Engine::Postgres, Postgres::missing);

/// A test for each subject, named after the function and the subject.
pub(crate) fn trials<T: 'static>(
    module: &str,
    name: &str,
    subjects: impl IntoIterator<Item = Subject<T>>,
    test: fn(T) -> Pin<Box<dyn Future<Output = ()>>>,
) -> Vec<Trial> {
    let of = |subject: Subject<T>| {
        trial(trial_name(module, name, subject.name), subject.missing, move || test((subject.make)()))
    };
    subjects.into_iter().map(of).collect()
}

/// The name of a test: the path of its function without the binary, and the subject if there is one.
pub(crate) fn trial_name(module: &str, function: &str, subject: &str) -> String {
    let module = module.split_once("::").map_or(module, |(_binary, module)| module);
    [module, function, subject].join("::").trim_end_matches("::").to_owned()
}

/// Registers a function for each of the subjects.
macro_rules! on {
    ($subjects:expr; $(#[$meta:meta])* async fn $name:ident($($argument:tt)*) $body:block) => {
        $(#[$meta])*
        async fn $name($($argument)*) $body

        inventory::submit! {
            $crate::trials::Registered(|| {
                let subjects = $subjects;
                $crate::trials::trials(module_path!(), stringify!($name), subjects, |subject| Box::pin($name(subject)))
            })
        }
    };
}
pub(crate) use on;

/// A test that needs no subject.
macro_rules! test {
    ($(#[$meta:meta])* async fn $name:ident() $body:block) => {
        $crate::trials::test_that_needs! { || None; $(#[$meta])* async fn $name() $body }
    };
    ($(#[$meta:meta])* fn $name:ident() $body:block) => {
        $crate::trials::test_that_needs! { || None; $(#[$meta])* fn $name() $body }
    };
}
pub(crate) use test;

/// A test that needs something installed, but no subject.
macro_rules! test_that_needs {
    ($missing:expr; $(#[$meta:meta])* async fn $name:ident() $body:block) => {
        $crate::trials::on! {
            [$crate::trials::Subject { name: "", make: || (), missing: $missing }];
            $(#[$meta])* async fn $name(_: ()) $body
        }
    };
    ($missing:expr; $(#[$meta:meta])* fn $name:ident() $body:block) => {
        $(#[$meta])*
        fn $name() $body

        inventory::submit! {
            $crate::trials::Registered(|| {
                let name = $crate::trials::trial_name(module_path!(), stringify!($name), "");
                vec![$crate::support::trials::plain_trial(name, $missing, $name)]
            })
        }
    };
}
pub(crate) use test_that_needs;

/// A test on each storage engine.
macro_rules! on_every_engine {
    ($($function:tt)*) => {
        $crate::trials::on! {
            [$crate::trials::MEMORY, $crate::trials::SQLITE, $crate::trials::POSTGRES]; $($function)*
        }
    };
}
pub(crate) use on_every_engine;

/// A test on each engine that keeps its data on disk.
macro_rules! on_databases {
    ($($function:tt)*) => { $crate::trials::on! { [$crate::trials::SQLITE, $crate::trials::POSTGRES]; $($function)* } };
}
pub(crate) use on_databases;

/// A test on a database that connectors can share.
macro_rules! on_postgres {
    ($($function:tt)*) => { $crate::trials::on! { [$crate::trials::POSTGRES]; $($function)* } };
}
pub(crate) use on_postgres;

/// A test with a database of its own on the PostgreSQL server that tests share.
macro_rules! with_database {
    ($($function:tt)*) => { $crate::trials::on! { [$crate::trials::own_database()]; $($function)* } };
}
pub(crate) use with_database;

/// A test that stops or breaks a PostgreSQL server, and gets one of its own.
macro_rules! with_postgres {
    ($($function:tt)*) => { $crate::trials::on! { [$crate::trials::own_postgres()]; $($function)* } };
}
pub(crate) use with_postgres;

/// A test with a Redis server of its own.
macro_rules! with_redis {
    ($($function:tt)*) => { $crate::trials::on! { [$crate::trials::own_redis()]; $($function)* } };
}
pub(crate) use with_redis;

pub(crate) fn own_database() -> Subject<Database> {
    Subject { name: "", make: Database::new, missing: Postgres::missing }
}

pub(crate) fn own_postgres() -> Subject<Postgres> {
    Subject { name: "", make: Postgres::start, missing: Postgres::missing }
}

pub(crate) fn own_redis() -> Subject<Redis> {
    Subject { name: "", make: Redis::start, missing: Redis::missing }
}
