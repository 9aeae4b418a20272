//! Converts the text that the registry writes to the text format that the scraper accepts.

use std::fmt::{self, Write as _};

/// The end marker of OpenMetrics.
const END: &str = "# EOF\n";

/// A text format of metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.
    #[default]
    OpenMetrics,
    /// The Prometheus text format 0.0.4, for scrapers that know no other.
    Plain,
}

impl Format {
    /// The media type with its version.
    #[must_use]
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts the registry's text to this format.
    ///
    /// # Errors
    /// Never in practice: the registry writes families alone, and writing to a string does not fail.
    pub(crate) fn convert(self, registry: &str) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(registry.len());
        let families = registry.strip_suffix(END).unwrap_or(registry);
        // A line break in a label value is escaped, so it cannot look like a new family.
        for family in families.split("\n# HELP ") {
            self.write(family.trim_start_matches("# HELP "), &mut text)?;
        }
        if self == Self::OpenMetrics {
            text.push_str(END);
        }
        Ok(text)
    }

    /// Writes a family, given as `name help`, `# TYPE name kind` and samples.
    fn write(self, family: &str, text: &mut String) -> fmt::Result {
        let (help, rest) = family.split_once("\n# TYPE ").ok_or(fmt::Error)?;
        // A family without values has no sample.
        let (described, samples) = rest.split_once('\n').unwrap_or((rest, ""));
        let (name, kind) = described.split_once(' ').ok_or(fmt::Error)?;
        let help = help.strip_prefix(name).ok_or(fmt::Error)?;
        // OpenMetrics describes the family's name, 0.0.4 the samples' name.
        let (suffix, plain_kind) = match (self, kind) {
            (Self::Plain, "counter") => ("_total", kind),
            (Self::Plain, "info") => ("_info", "gauge"),
            _ => ("", kind),
        };
        writeln!(text, "# HELP {name}{suffix}{help}\n# TYPE {name}{suffix} {plain_kind}")?;
        // OpenMetrics forbids the sum of a histogram with negative buckets, and a count without a sum.
        let has_sum = !(kind == "histogram" && samples.contains("le=\"-"));
        let is_summary = |sample: &str| {
            let rest = sample.strip_prefix(name).unwrap_or_default();
            rest.starts_with("_sum") || rest.starts_with("_count")
        };
        for sample in samples.lines().filter(|sample| has_sum || !is_summary(sample)) {
            writeln!(text, "{sample}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_without_samples_is_kept() {
        let registry = "# HELP a An A.\n# TYPE a counter\n# HELP b A B.\n# TYPE b gauge\nb 1\n# EOF\n";
        assert_eq!(Format::OpenMetrics.convert(registry).as_deref(), Ok(registry));
        let plain = "# HELP a_total An A.\n# TYPE a_total counter\n# HELP b A B.\n# TYPE b gauge\nb 1\n";
        assert_eq!(Format::Plain.convert(registry).as_deref(), Ok(plain));
    }
}
