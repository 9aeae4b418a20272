//! Reads the caller's trace from `traceparent` (W3C Trace Context). `tracestate` is ignored, because it is free text of
//! the caller that every span would contain.

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;

const TRACEPARENT: &str = "traceparent";
/// The length of `00-`, 32 digits, `-`, 16 digits, `-01`. Later versions may append `-` and more.
const LENGTH: usize = 55;

/// The caller's span, if exactly one valid header is present.
pub(crate) fn parent_span(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (known, more) = value.split_at_checked(LENGTH)?;
    let is_plain = known.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let has_valid_end = more.is_empty() || more.starts_with('-') && !known.starts_with("00-");
    if !is_plain || !has_valid_end {
        return None;
    }
    let context = TraceContextPropagator::new().extract(&SingleHeader(known));
    let parent = context.span().span_context().clone();
    parent.is_valid().then_some(parent)
}

/// The `traceparent` header alone.
struct SingleHeader<'a>(&'a str);

impl Extractor for SingleHeader<'_> {
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
        parent_span(&headers)
            .map(|parent| (parent.trace_id().to_string(), parent.span_id().to_string(), parent.is_sampled()))
    }

    #[test]
    fn only_a_single_valid_header_is_accepted() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let valid = format!("00-{trace}-{span}-01");
        assert_eq!(parent(&[&valid]), Some((trace.to_owned(), span.to_owned(), true)));
        let later = valid.replace("00-4", "cc-4");
        for later in [later.clone(), format!("{later}-"), format!("{later}-later members")] {
            assert_eq!(parent(&[&later]), Some((trace.to_owned(), span.to_owned(), true)), "{later}");
        }
        assert_eq!(parent(&[&valid.replace("-01", "-00")]).map(|(.., is_sampled)| is_sampled), Some(false));
        for wrong in [
            String::new(),
            valid.to_uppercase(),
            valid.replace("00-4", "ff-4"),
            valid.replace(span, "0000000000000000"),
            valid.replace(trace, "00000000000000000000000000000000"),
            valid.replace("4bf9", "+bf9"),
            valid.replace("4bf9", "-bf9"),
            format!("{valid}-more"),
            format!("{later}more"),
            format!("{}-more", valid.replace("00-4", "ff-4")),
            valid.replace("-01", "-1"),
        ] {
            assert_eq!(parent(&[&wrong]), None, "{wrong}");
        }
        assert_eq!(parent(&[&valid, &valid]), None, "two headers");
        assert_eq!(parent(&[]), None);
    }
}
