//! Tables of metrics, in which the doc comment of a metric is its help text. `metrics!` is for what is counted where it
//! happens, `readings!` for figures that another part keeps.

use std::fmt;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Defines a struct of metrics. A field's name is the metric's name, without the prefix of its registry. A counter's
/// name gets `_total` at its end.
macro_rules! metrics {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $table:ident {
            $($(#[doc = $help:literal])+ $field_visibility:vis $field:ident: $metric:ty $(= $new:expr)?,)+
        }
    ) => {
        $(#[$attribute])*
        $visibility struct $table {
            $($(#[doc = $help])+ $field_visibility $field: $metric,)+
        }

        /// All metrics with the value zero.
        impl Default for $table {
            fn default() -> Self {
                Self { $($field: $crate::observe::metrics::metrics!(@new $($new)?),)+ }
            }
        }

        impl $table {
            /// Adds all metrics to a registry.
            $visibility fn register(&self, registry: &mut prometheus_client::registry::Registry) {
                $(registry.register(
                    stringify!($field),
                    $crate::observe::metrics::table::help(concat!($($help),+)),
                    self.$field.clone(),
                );)+
            }
        }
    };
    (@new) => { Default::default() };
    (@new $new:expr) => { $new };
}

/// Registers metrics whose values are read from a part of the connector at each scrape:
///
/// ```text
/// readings! { registry, part = &part;
///     /// The help text.
///     gauge name = part.number();
///     /// The help text.
///     counter by_label(label) = [("value of the label", part.number())];
/// }
/// ```
///
/// A value that is `None` is absent.
macro_rules! readings {
    (
        $registry:expr, $part:ident = $from:expr;
        $($(#[doc = $help:literal])+ $kind:ident $name:ident $(($label:ident))? = $read:expr;)+
    ) => {
        $({
            let $part = Clone::clone($from);
            $registry.register(
                stringify!($name),
                $crate::observe::metrics::table::help(concat!($($help),+)),
                $crate::observe::metrics::table::Reading::$kind(move || {
                    $crate::observe::metrics::readings!(@samples $(($label))? $read)
                }),
            );
        })+
    };
    (@samples $read:expr) => { $crate::observe::metrics::table::unlabelled($read) };
    (@samples ($label:ident) $read:expr) => { $crate::observe::metrics::table::labelled(stringify!($label), $read) };
}

pub(crate) use {metrics, readings};

/// The help text of doc comments. The registry adds the full stop.
pub(crate) fn help(doc: &'static str) -> &'static str {
    doc.trim().trim_end_matches('.')
}

/// A metric whose values are read at each scrape. Without values, it is absent.
pub(crate) struct Reading<F> {
    kind: MetricType,
    read: F,
}

/// A value, and its label if it has one.
pub(crate) struct Sample {
    label: Option<(&'static str, String)>,
    value: u64,
}

impl<F: Fn() -> Vec<Sample>> Reading<F> {
    pub(crate) fn gauge(read: F) -> Self {
        Self { kind: MetricType::Gauge, read }
    }

    pub(crate) fn counter(read: F) -> Self {
        Self { kind: MetricType::Counter, read }
    }

    fn write(&self, encoder: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
        match self.kind {
            MetricType::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
            _ => encoder.encode_gauge(&value),
        }
    }
}

impl<F: Fn() -> Vec<Sample>> EncodeMetric for Reading<F> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for Sample { label, value } in (self.read)() {
            match label {
                Some(label) => self.write(&mut encoder.encode_family(&[label])?, value)?,
                None => self.write(&mut encoder, value)?,
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }

    fn is_empty(&self) -> bool {
        (self.read)().is_empty()
    }
}

impl<F> fmt::Debug for Reading<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading")
    }
}

pub(crate) fn unlabelled(value: impl Value) -> Vec<Sample> {
    value.value().map(|value| Sample { label: None, value }).into_iter().collect()
}

pub(crate) fn labelled<L: Into<String>, V: Value>(
    label: &'static str,
    values: impl IntoIterator<Item = (L, V)>,
) -> Vec<Sample> {
    let values = values.into_iter().filter_map(|(of, value)| Some((of, value.value()?)));
    values.map(|(of, value)| Sample { label: Some((label, of.into())), value }).collect()
}

/// What a reading may return.
pub(crate) trait Value {
    fn value(self) -> Option<u64>;
}

impl Value for u64 {
    fn value(self) -> Option<u64> {
        Some(self)
    }
}

impl Value for usize {
    fn value(self) -> Option<u64> {
        u64::try_from(self).ok()
    }
}

/// 1 for true.
impl Value for bool {
    fn value(self) -> Option<u64> {
        Some(self.into())
    }
}

impl<V: Value> Value for Option<V> {
    fn value(self) -> Option<u64> {
        self?.value()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::registry::Registry;

    metrics! {
        struct Counted {
            /// One line,
            /// and another.
            scans: Counter,
        }
    }

    #[test]
    fn a_doc_comment_is_the_help_text_and_an_absent_value_leaves_no_trace() {
        let (mut registry, counted) = (Registry::default(), Counted::default());
        counted.register(&mut registry);
        readings! { registry, number = &3_usize;
            /// A number
            gauge number = number;
            /// Never there.
            gauge absent = Some(number).filter(|_| false);
            /// By kind.
            counter kinds(kind) = [("odd", Some(number)), ("even", None)];
        }
        counted.scans.inc();
        let mut encoded = String::new();
        text::encode(&mut encoded, &registry).expect("a text");
        assert_eq!(
            encoded,
            "# HELP scans One line, and another.\n# TYPE scans counter\nscans_total 1\n\
             # HELP number A number.\n# TYPE number gauge\nnumber 3\n\
             # HELP kinds By kind.\n# TYPE kinds counter\nkinds_total{kind=\"odd\"} 3\n# EOF\n"
        );
    }
}
