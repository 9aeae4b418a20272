//! Checks the answers of a running connector against the OpenAPI document: status, headers and body must be documented.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex};

use identity_connector::testing::admin::openapi::document;
use jsonschema::Draft;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::Answer;

pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(&document()).unwrap());

/// Every call in the document: its method, path and description.
pub(crate) fn calls() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, call)| (method.as_str(), path.as_str(), call))
    })
}

/// The documented answers that a test has received.
#[derive(Default)]
pub(crate) struct Seen(Mutex<BTreeSet<(String, u16)>>);

impl Seen {
    /// Sends a request for the call with this operation id, and checks the answer and its status.
    #[track_caller]
    pub(super) fn ask(&self, id: &str, status: u16, request: RequestBuilder) -> impl Future<Output = Answer> {
        let id = id.to_owned();
        async move {
            let answer = Answer::read(request.send().await.unwrap()).await;
            assert_eq!(answer.status, status, "{id}: {}", String::from_utf8_lossy(&answer.body));
            check(&id, &answer);
            self.0.lock().unwrap().insert((id, status));
            answer
        }
    }

    /// Asserts that every documented 2xx status of the calls with this tag was received.
    pub(super) fn assert_every_success(&self, tag: &str) {
        let seen = self.0.lock().unwrap();
        for (_, _, call) in calls().filter(|(_, _, call)| call["tags"][0] == tag) {
            let id = call["operationId"].as_str().unwrap();
            for status in call["responses"].as_object().unwrap().keys().filter(|status| status.starts_with('2')) {
                assert!(seen.contains(&(id.to_owned(), status.parse().unwrap())), "{id} never answered {status}");
            }
        }
    }
}

/// Checks an answer against the call with this operation id.
#[track_caller]
pub(crate) fn check(id: &str, answer: &Answer) {
    let (_, _, call) = calls().find(|(_, _, call)| call["operationId"] == id).unwrap_or_else(|| panic!("{id}?"));
    let described = &call["responses"][answer.status.to_string()];
    let described = match described["$ref"].as_str() {
        Some(shared) => DOCUMENT.pointer(shared.trim_start_matches('#')).unwrap(),
        None => described,
    };
    assert!(described.is_object(), "{id}: status {} is not documented", answer.status);
    let is_picture = answer.headers.get("content-type").is_some_and(|form| form.as_bytes().starts_with(b"image/"));
    for name in described["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
        let is_there = answer.headers.contains_key(name);
        assert_eq!(is_there, is_picture || !name.starts_with("x-scan-key-code"), "{id} {}: {name}", answer.status);
    }
    for name in ["retry-after", "www-authenticate"] {
        assert!(
            !answer.headers.contains_key(name) || !described["headers"][name].is_null(),
            "{id} {}: {name}",
            answer.status
        );
    }
    let Some(contents) = described["content"].as_object() else {
        assert!(answer.body.is_empty(), "{id} {} has a body", answer.status);
        return;
    };
    let form = answer.headers["content-type"].to_str().unwrap();
    let content = contents.get(form).unwrap_or_else(|| panic!("{id} {}: {form}", answer.status));
    if form == "application/json" {
        let body = answer.json();
        assert_valid(&content["schema"], &body, &format!("{id} {}", answer.status));
        // An error is one of the examples, unless its message depends on the request.
        if let Some(examples) = content["examples"].as_object()
            && described["description"] != "The message names the problem and its position."
        {
            let is_one = examples.values().any(|example| example["value"] == body);
            assert!(is_one, "{id} {}: {body} is not one of the examples", answer.status);
        }
    }
}

/// Checks a value against a schema.
#[track_caller]
pub(crate) fn assert_valid(schema: &Value, value: &Value, what: &str) {
    let errors: Vec<String> = validator(schema).iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{what}: {errors:?} in {value}");
}

pub(crate) fn validator(schema: &Value) -> jsonschema::Validator {
    // References in the schema point into the document.
    let mut schema = schema.clone();
    schema.as_object_mut().unwrap().insert("components".to_owned(), json!(DOCUMENT["components"]));
    jsonschema::options().with_draft(Draft::Draft202012).build(&schema).unwrap()
}
