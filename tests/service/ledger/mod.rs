//! What every ledger must do: the same tests over each engine.

#![expect(clippy::duplicate_mod, reason = "the same properties, once for each engine")]

#[path = "."]
mod memory {
    use crate::support::Server;

    async fn demo(settings: &[(&str, &str)]) -> Server {
        Server::demo(settings).await
    }

    #[path = "capacity.rs"]
    mod capacity;
    #[path = "idempotency.rs"]
    mod idempotency;
    #[path = "races.rs"]
    mod races;
    #[path = "retention.rs"]
    mod retention;
    #[path = "session_list.rs"]
    mod session_list;
    #[path = "sessions.rs"]
    mod sessions;
}

#[path = "."]
mod sqlite {
    use crate::support::Server;

    async fn demo(settings: &[(&str, &str)]) -> Server {
        Server::sqlite(settings).await
    }

    #[path = "idempotency.rs"]
    mod idempotency;
    #[path = "races.rs"]
    mod races;
    #[path = "retention.rs"]
    mod retention;
    #[path = "session_list.rs"]
    mod session_list;
    #[path = "sessions.rs"]
    mod sessions;
}
