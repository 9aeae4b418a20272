//! The administration: lists, and rows that are put, read and deleted.

use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{RefOr, Response, ResponseBuilder};

use super::super::error::ApiError;
use super::super::management::{AuditRow, DecisionRow, MAX_PAGE, PAGE, SessionRow, WANTED};
use super::call::{Call, array_of, capital, schema_of, text};
use super::{MANAGEMENT_TOKEN, fault};
use crate::directory::{CustomerRow, IdentityKeyRow, RecognitionTokenRow, ShopperRow, StoreRow};

pub(super) const TAG: &str = "administration";

const SHOPPERS: &str = "shoppers";

pub(super) fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    super::add::<StoreRow>(schemas);
    super::add::<ShopperRow>(schemas);
    add_with::<IdentityKeyRow>(
        schemas,
        &[("key", "The key itself, of 1 to 750 printable ASCII characters; or its digest. Never told again.")],
    );
    let token = "The token itself, of 32 letters and digits; or its digest; without either, one is made and told in this answer, and never again.";
    add_with::<RecognitionTokenRow>(schemas, &[("token", token)]);
    let subject = "The provider's name for the customer.";
    add_with::<CustomerRow>(
        schemas,
        &[("issuer", "The provider's name for itself; or the digest."), ("subject", subject)],
    );
    super::add::<SessionRow<'_>>(schemas);
    super::add::<DecisionRow<'_>>(schemas);
    super::add::<AuditRow>(schemas);
}

/// A row whose secret goes in by these members, and does not come out: the derived schema knows only what comes out.
fn add_with<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>, members: &[(&str, &str)]) {
    let mut schema = T::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        for (name, description) in members {
            let text = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]));
            object.properties.insert((*name).to_owned(), text.description(Some(*description)).into());
        }
    }
    schemas.push((T::name().into_owned(), schema));
}

pub(super) fn calls() -> impl Iterator<Item = Call> {
    let store = Kind {
        path: "stores",
        list: "stores",
        one: "Store",
        called: "a store",
        id: Id::Own,
        example: json!({ "takesCash": true, "defaultGateDecision": "closed" }),
        mistake: "takesCash: must be true or false",
    };
    let shopper = Kind {
        path: SHOPPERS,
        list: "shoppers",
        one: "Shopper",
        called: "a shopper",
        id: Id::Own,
        example: json!({ "type": "SHOPPER", "paymentMethod": { "lastMonth": "2029-06" }, "devices": ["phone-7"] }),
        mistake: "type: is missing",
    };
    let key = Kind {
        path: "identity-keys",
        list: "identityKeys",
        one: "IdentityKey",
        called: "an identity key",
        id: Id::Digest,
        example: json!({ "key": "badge-4711", "shopper": "shopper-7", "channel": "RADIO" }),
        mistake: "device: not one of that shopper's devices",
    };
    let token = Kind {
        path: "recognition-tokens",
        list: "recognitionTokens",
        one: "RecognitionToken",
        called: "a recognition token",
        id: Id::Digest,
        example: json!({ "shopper": "shopper-7", "device": "phone-7" }),
        mistake: "shopper: no such shopper",
    };
    let customer = Kind {
        path: "customers",
        list: "customers",
        one: "Customer",
        called: "a customer of an OpenID provider",
        id: Id::Digest,
        example: json!({ "issuer": "https://login.example.com/tenant/v2.0", "subject": "248289761001", "shopper": "shopper-7" }),
        mistake: "shopper: no such shopper",
    };
    let flags = [("flag", "Holds a shopper's account back"), ("unflag", "Lets a shopper's account go")];
    let flags = flags.map(|(word, summary)| {
        shopper.one(HttpMethod::Post, word, &format!("{word}Shopper"), summary).refuses([ApiError::NotFound])
    });
    let revocations = [&key, &token].map(|kind| {
        let summary = format!("Refuses {} as invalid from now on", kind.called);
        kind.one(HttpMethod::Post, "revoke", &format!("revoke{}", kind.one), &summary).refuses([ApiError::NotFound])
    });
    let flags = flags.map(|call| call.answers("As it is now.", schema_of::<ShopperRow>()));
    let [key_revoked, token_revoked] = revocations;
    let calls = [
        store.all::<StoreRow>(),
        shopper.all::<ShopperRow>(),
        key.all::<IdentityKeyRow>(),
        token.all::<RecognitionTokenRow>(),
        customer.all::<CustomerRow>(),
    ];
    let lists = [
        list::<SessionRow<'_>>("sessions", "sessions", "Who is in the store, and who was: the newest first"),
        list::<DecisionRow<'_>>("decisions", "decisions", "What gates were told: the newest first"),
        list::<AuditRow>("audit", "audit", "What was changed about who is known: the newest first"),
    ];
    let revocations = [
        key_revoked.answers("As it is now.", schema_of::<IdentityKeyRow>()),
        token_revoked.answers("As it is now.", schema_of::<RecognitionTokenRow>()),
    ];
    let calls = calls.into_iter().flatten().chain(flags).chain(revocations).chain(lists);
    let all = || [ApiError::Unauthorized, ApiError::AdministrationClosed, fault()];
    calls.map(move |call| call.needs(&[MANAGEMENT_TOKEN]).refuses(all()).tagged(TAG))
}

/// Rows of one kind.
struct Kind {
    path: &'static str,
    /// The member of a list that holds them.
    list: &'static str,
    one: &'static str,
    called: &'static str,
    id: Id,
    example: Value,
    /// What a PUT may be told.
    mistake: &'static str,
}

/// What a row goes by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    /// Its own id, percent-encoded.
    Own,
    /// The digest of what it is: that comes in a body and is never told again.
    Digest,
}

impl Kind {
    fn all<R: ToSchema>(&self) -> Vec<Call> {
        let (name, called) = (self.one, self.called);
        let put = format!("Puts {called} in the place of what was there");
        let put = match self.id {
            Id::Own => self.one(HttpMethod::Put, "", &format!("put{name}"), &put),
            Id::Digest => Call::new(HttpMethod::Put, self.collection(), &format!("put{name}"), &put),
        };
        let put = put.described("An unknown member is refused, as a misspelt one. What is wrong is told all at once, and no value is quoted.");
        let delete = self
            .one(HttpMethod::Delete, "", &format!("delete{name}"), &format!("Deletes {called}"))
            .responds(204, done());
        let delete = match self.path {
            SHOPPERS => delete.described(
                "Erases them: keys, tokens, devices and carts go, and a pseudonym takes their place in what is kept. The answer comes after 3 s or 5 s. \
                 Done again it does what is left to do, so that nobody is told whether they were there.",
            ),
            _ => delete.refuses([ApiError::NotFound]),
        };
        vec![
            list::<R>(self.path, self.list, &format!("Lists them in the order of their {}", self.id.plural())),
            put.takes(schema_of::<R>(), self.example.clone())
                .answers("As it is now.", schema_of::<R>())
                .refuses_such_as(ApiError::BadRow(self.mistake.into()))
                .refuses([ApiError::TooLong]),
            self.one(HttpMethod::Get, "", &format!("get{name}"), &format!("Reads {called}"))
                .answers("As it is now.", schema_of::<R>())
                .refuses([ApiError::NotFound]),
            delete,
        ]
    }

    /// What is done to one of them.
    fn one(&self, method: HttpMethod, what: &str, id: &str, summary: &str) -> Call {
        let path = match self.id {
            Id::Own => format!("{}/{{id}}/{what}", self.collection()),
            Id::Digest => format!("{}/{{digest}}/{what}", self.collection()),
        };
        let call = Call::new(method, path.trim_end_matches('/'), id, summary);
        match self.id {
            Id::Own => call
                .parameter("id", ParameterIn::Path, "Percent-encoded, without U+0000.", text(255))
                .refuses_such_as(ApiError::BadRow("id: is longer than 255 characters".into())),
            Id::Digest => call
                .parameter(
                    "digest",
                    ParameterIn::Path,
                    "As the list tells it.",
                    text(64).pattern(Some("^[0-9a-f]{64}$")),
                )
                .refuses_such_as(ApiError::BadRow(
                    "digest: must be 64 hexadecimal digits, as the lists tell them".into(),
                )),
        }
    }

    fn collection(&self) -> String {
        format!("/admin/v1/{}", self.path)
    }
}

impl Id {
    fn plural(self) -> &'static str {
        match self {
            Self::Own => "ids",
            Self::Digest => "digests",
        }
    }
}

/// A page of rows.
fn list<R: ToSchema>(path: &str, name: &str, summary: &str) -> Call {
    let page = ObjectBuilder::new().property(name, array_of::<R>()).required(name).property(
        "nextCursor",
        ObjectBuilder::new().schema_type(Type::String).description(Some("There while there are more.")),
    );
    let limit =
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1_i64)).maximum(i64::try_from(MAX_PAGE).ok());
    Call::new(HttpMethod::Get, format!("/admin/v1/{path}"), &format!("list{}", capital(name)), summary)
        .parameter("limit", ParameterIn::Query, "How many at most.", limit.default(Some(PAGE.into())))
        .parameter(
            "cursor",
            ParameterIn::Query,
            "What `nextCursor` was.",
            ObjectBuilder::new().schema_type(Type::String),
        )
        .answers("A page.", RefOr::from(Schema::from(page.build())))
        .refuses([ApiError::BadQuery(WANTED.into())])
}

fn done() -> Response {
    ResponseBuilder::new().description("It is gone.").build()
}
