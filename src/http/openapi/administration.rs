//! Describes the administration: lists, and the calls on single rows.

use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{RefOr, Response, ResponseBuilder};

use super::super::management::{AdminError, AuditRow, BAD_PAGE, DEFAULT_LIMIT, DecisionRow, MAX_LIMIT, SessionRow};
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
        &[("key", "The key, 1 to 750 printable ASCII characters. Give this or `digest`. Never returned.")],
    );
    let token = "The token, 32 letters and digits. Give this or `digest`. Without both, the connector makes a token and returns it \
                 in this answer only.";
    add_with::<RecognitionTokenRow>(schemas, &[("token", token)]);
    let issuer = "The provider's `issuer`. Give `issuer` and `subject`, or `digest`. Never returned.";
    let subject = "The value of the provider's `customer_claim` (`sub` by default). Never returned.";
    add_with::<CustomerRow>(schemas, &[("issuer", issuer), ("subject", subject)]);
    super::add::<SessionRow<'_>>(schemas);
    super::add::<DecisionRow<'_>>(schemas);
    super::add::<AuditRow>(schemas);
}

/// Adds the schema of a row with write-only members. The derived schema has only the members that are returned.
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
        name: "Store",
        singular: "a store",
        id: Id::Own,
        example: json!({ "takesCash": true, "defaultGateDecision": "closed" }),
        bad_row: "takesCash: must be true or false",
    };
    let shopper = Kind {
        path: SHOPPERS,
        list: "shoppers",
        name: "Shopper",
        singular: "a shopper",
        id: Id::Own,
        example: json!({ "type": "SHOPPER", "paymentMethod": { "lastMonth": "2029-06" }, "devices": ["phone-7"] }),
        bad_row: "type: is missing",
    };
    let key = Kind {
        path: "identity-keys",
        list: "identityKeys",
        name: "IdentityKey",
        singular: "an identity key",
        id: Id::Digest,
        example: json!({ "key": "badge-4711", "shopper": "shopper-7", "channel": "RADIO" }),
        bad_row: "device: not one of that shopper's devices",
    };
    let token = Kind {
        path: "recognition-tokens",
        list: "recognitionTokens",
        name: "RecognitionToken",
        singular: "a recognition token",
        id: Id::Digest,
        example: json!({ "shopper": "shopper-7", "device": "phone-7" }),
        bad_row: "shopper: no such shopper",
    };
    let customer = Kind {
        path: "customers",
        list: "customers",
        name: "Customer",
        singular: "a customer of an OpenID provider",
        id: Id::Digest,
        example: json!({ "issuer": "https://login.example.com/tenant/v2.0", "subject": "248289761001", "shopper": "shopper-7" }),
        bad_row: "shopper: no such shopper",
    };
    let flags = [("flag", "Flag a shopper's account"), ("unflag", "Unflag a shopper's account")];
    let flags = flags.map(|(word, summary)| {
        shopper.one(HttpMethod::Post, word, &format!("{word}Shopper"), summary).refuses([AdminError::NotFound])
    });
    let revocations = [&key, &token].map(|kind| {
        let summary = format!("Revoke {}: scans with it are denied from now on", kind.singular);
        kind.one(HttpMethod::Post, "revoke", &format!("revoke{}", kind.name), &summary).refuses([AdminError::NotFound])
    });
    let flags = flags.map(|call| call.answers("The current row.", schema_of::<ShopperRow>()));
    let [key_revoked, token_revoked] = revocations;
    let calls = [
        store.all::<StoreRow>(),
        shopper.all::<ShopperRow>(),
        key.all::<IdentityKeyRow>(),
        token.all::<RecognitionTokenRow>(),
        customer.all::<CustomerRow>(),
    ];
    let lists = [
        list::<SessionRow<'_>>("sessions", "sessions", "List sessions (visits to stores), newest first"),
        list::<DecisionRow<'_>>("decisions", "decisions", "List decisions, newest first"),
        list::<AuditRow>("audit", "audit", "List changes of the directory, newest first"),
    ];
    let revocations = [
        key_revoked.answers("The current row.", schema_of::<IdentityKeyRow>()),
        token_revoked.answers("The current row.", schema_of::<RecognitionTokenRow>()),
    ];
    let calls = calls.into_iter().flatten().chain(flags).chain(revocations).chain(lists);
    let all = || [AdminError::Unauthorized.into(), AdminError::AdministrationClosed.into(), fault()];
    calls.map(move |call| call.needs(&[MANAGEMENT_TOKEN]).refuses(all()).tagged(TAG))
}

/// Rows of one kind.
struct Kind {
    path: &'static str,
    /// The member of a list that has the rows.
    list: &'static str,
    /// The name in operation ids.
    name: &'static str,
    singular: &'static str,
    id: Id,
    example: Value,
    /// An example of a message that refuses a PUT.
    bad_row: &'static str,
}

/// How a path identifies a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    /// By its id, percent-encoded.
    Own,
    /// By the digest of its key, token or customer.
    Digest,
}

impl Kind {
    fn all<R: ToSchema>(&self) -> Vec<Call> {
        let (name, singular) = (self.name, self.singular);
        let put = format!("Create or replace {singular}");
        let put = match self.id {
            Id::Own => self.one(HttpMethod::Put, "", &format!("put{name}"), &put),
            Id::Digest => Call::new(HttpMethod::Put, self.collection(), &format!("put{name}"), &put),
        };
        let put = put.described(
            "Unknown members are refused, so that a misspelt one is noticed. The message lists all problems and never quotes a value.",
        );
        let delete = self
            .one(HttpMethod::Delete, "", &format!("delete{name}"), &format!("Delete {singular}"))
            .responds(204, done());
        let delete = match self.path {
            SHOPPERS => delete.described(
                "Erases the shopper: deletes keys, tokens, devices, customers and carts, and replaces the id in decisions, sessions and the audit \
                 with a pseudonym. The answer takes 3 s, plus 2 s with PostgreSQL, or plus `directory.cache_for` if that is longer. If a \
                 call fails, repeat it: that completes the erasure. For this reason an unknown shopper gets 204 too.",
            ),
            _ => delete.refuses([AdminError::NotFound]),
        };
        vec![
            list::<R>(
                self.path,
                self.list,
                &format!("List {}, ordered by {}", self.path.replace('-', " "), self.id.name()),
            ),
            put.takes(schema_of::<R>(), self.example.clone())
                .answers("The current row.", schema_of::<R>())
                .refuses_such_as(AdminError::BadRow(self.bad_row.into()))
                .refuses([AdminError::TooLong]),
            self.one(HttpMethod::Get, "", &format!("get{name}"), &format!("Get {singular}"))
                .answers("The current row.", schema_of::<R>())
                .refuses([AdminError::NotFound]),
            delete,
        ]
    }

    /// A call on one row.
    fn one(&self, method: HttpMethod, action: &str, id: &str, summary: &str) -> Call {
        let path = match self.id {
            Id::Own => format!("{}/{{id}}/{action}", self.collection()),
            Id::Digest => format!("{}/{{digest}}/{action}", self.collection()),
        };
        let call = Call::new(method, path.trim_end_matches('/'), id, summary);
        match self.id {
            Id::Own => call
                .parameter("id", ParameterIn::Path, "Percent-encoded, without U+0000.", text(255))
                .refuses_such_as(AdminError::BadRow("id: is longer than 255 characters".into())),
            Id::Digest => call
                .parameter(
                    "digest",
                    ParameterIn::Path,
                    "The digest, as in the list.",
                    text(64).pattern(Some("^[0-9a-f]{64}$")),
                )
                .refuses_such_as(AdminError::BadRow("digest: must be 64 hexadecimal digits, as in the lists".into())),
        }
    }

    fn collection(&self) -> String {
        format!("/admin/v1/{}", self.path)
    }
}

impl Id {
    fn name(self) -> &'static str {
        match self {
            Self::Own => "id",
            Self::Digest => "digest",
        }
    }
}

/// A call that lists rows.
fn list<R: ToSchema>(path: &str, name: &str, summary: &str) -> Call {
    let page = ObjectBuilder::new().property(name, array_of::<R>()).required(name).property(
        "nextCursor",
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("The cursor of the next page. Absent on the last page.")),
    );
    let limit =
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1_i64)).maximum(i64::try_from(MAX_LIMIT).ok());
    Call::new(HttpMethod::Get, format!("/admin/v1/{path}"), &format!("list{}", capital(name)), summary)
        .parameter(
            "limit",
            ParameterIn::Query,
            "The maximum number of rows of a page.",
            limit.default(Some(DEFAULT_LIMIT.into())),
        )
        .parameter(
            "cursor",
            ParameterIn::Query,
            "The `nextCursor` of the page before.",
            ObjectBuilder::new().schema_type(Type::String),
        )
        .answers("A page of rows.", RefOr::from(Schema::from(page.build())))
        .refuses([AdminError::BadQuery(BAD_PAGE.into())])
}

fn done() -> Response {
    ResponseBuilder::new().description("Deleted.").build()
}
