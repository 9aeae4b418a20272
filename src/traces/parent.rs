//! The trace that a caller says their request belongs to: W3C Trace Context, `traceparent` alone. `tracestate` is a text of the caller's
//! own, which would travel with every span.

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;

const TRACEPARENT: &str = "traceparent";
/// `00-`, 32 digits, `-`, 16 digits, `-01`. Later versions may have more behind that, after another `-`.
const LENGTH: usize = 55;

/// The caller's span, where there is exactly one header that names one.
pub(super) fn of(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (known, more) = value.split_at_checked(LENGTH)?;
    let is_plain = known.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let has_its_length = more.is_empty() || more.starts_with('-') && !known.starts_with("00-");
    if !is_plain || !has_its_length {
        return None;
    }
    let context = TraceContextPropagator::new().extract(&Only(known));
    let parent = context.span().span_context().clone();
    parent.is_valid().then_some(parent)
}

/// A request that has this one header.
struct Only<'a>(&'a str);

impl Extractor for Only<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn parent(values: &[&str]) -> Option<(String, String, bool)> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).expect("a header"));
        }
        of(&headers).map(|parent| (parent.trace_id().to_string(), parent.span_id().to_string(), parent.is_sampled()))
    }

    #[test]
    fn one_header_in_its_form_is_taken_and_nothing_else() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let sound = format!("00-{trace}-{span}-01");
        assert_eq!(parent(&[&sound]), Some((trace.to_owned(), span.to_owned(), true)));
        let later = sound.replace("00-4", "cc-4");
        for later in [later.clone(), format!("{later}-"), format!("{later}-what the future brings")] {
            assert_eq!(parent(&[&later]), Some((trace.to_owned(), span.to_owned(), true)), "{later}");
        }
        assert_eq!(parent(&[&sound.replace("-01", "-00")]).map(|(.., is_sampled)| is_sampled), Some(false));
        for wrong in [
            String::new(),
            sound.to_uppercase(),
            sound.replace("00-4", "ff-4"),
            sound.replace(span, "0000000000000000"),
            sound.replace(trace, "00000000000000000000000000000000"),
            sound.replace("4bf9", "+bf9"),
            sound.replace("4bf9", "-bf9"),
            format!("{sound}-more"),
            format!("{later}more"),
            format!("{}-more", sound.replace("00-4", "ff-4")),
            sound.replace("-01", "-1"),
        ] {
            assert_eq!(parent(&[&wrong]), None, "{wrong}");
        }
        assert_eq!(parent(&[&sound, &sound]), None, "it cannot have two");
        assert_eq!(parent(&[]), None);
    }
}
