//! Reads some members of a JSON object. Each of them may occur at most once; all other members are ignored.
//!
//! Values stay raw text, so an unknown member is never parsed: deep nesting, out-of-range numbers and unpaired
//! surrogates in it cause no error. A known member of the wrong type is an error in that field, not in the body.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{self, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The requested members of an object, in the order of the request.
#[derive(Debug)]
pub(crate) struct Members<'a, const N: usize> {
    /// The raw values; `None` if absent.
    pub(crate) values: [Option<Raw<'a>>; N],
    /// Whether the object has no member at all.
    pub(crate) is_empty: bool,
}

/// A JSON value as raw text.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    pub(crate) fn is_null(self) -> bool {
        self.0 == "null"
    }

    pub(crate) fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    /// The unescaped string; `None` if the value is no string or has an unpaired surrogate.
    pub(crate) fn as_str(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?;
        match inner.strip_suffix('"') {
            Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
            _ => serde_json::from_str::<String>(self.0).ok().map(Cow::Owned),
        }
    }

    /// Reads members of the object; `None` as for [`Members::parse`].
    pub(crate) fn members<const N: usize>(self, names: [&str; N]) -> Option<Members<'a, N>> {
        Members::parse(self.0, names)
    }
}

/// Hides the value, which may be an identity key.
impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Raw(…)")
    }
}

impl<'a, const N: usize> Members<'a, N> {
    /// Reads an object. `None` if the text is not JSON, not an object, or has one of `names` twice.
    pub(crate) fn parse(text: &'a str, names: [&str; N]) -> Option<Self> {
        let mut json = serde_json::Deserializer::from_str(text);
        let members = json.deserialize_map(Reader { names }).ok()?;
        json.end().ok()?;
        Some(members)
    }
}

struct Reader<'n, const N: usize> {
    names: [&'n str; N],
}

impl<'de, const N: usize> Visitor<'de> for Reader<'_, N> {
    type Value = Members<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members { values: [None; N], is_empty: true };
        // Names are read as raw text too: one with an unpaired surrogate is an unknown name, not an error.
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            members.is_empty = false;
            let Some(name) = Raw(name.get()).as_str() else { continue };
            let requested = self.names.iter().zip(&mut members.values).find(|(requested, _)| **requested == name);
            if let Some((_, slot)) = requested
                && slot.replace(Raw(value.get())).is_some()
            {
                return Err(de::Error::custom("a member is given twice"));
            }
        }
        Ok(members)
    }
}
