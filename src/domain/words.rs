//! The words of enumerations, each written once: for JSON, the database, metrics and logs.

/// An enumeration whose values have words.
pub(crate) trait Words: Copy + 'static {
    /// All words, in the order of the values.
    const ALL: &'static [&'static str];

    /// The value with this word.
    fn from_word(word: &str) -> Option<Self>;

    /// The value's word.
    fn word(self) -> &'static str;
}

/// Implements [`Words`], and `parse` and `as_str`, for an enumeration.
macro_rules! words {
    ($type:ident { $($value:ident = $word:literal),+ }) => {
        impl $type {
            /// The value with this word.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$value),)+
                    _ => None,
                }
            }

            /// The word in JSON and in the database.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }
        }

        impl $crate::domain::words::Words for $type {
            const ALL: &'static [&'static str] = &[$($word),+];

            fn from_word(word: &str) -> Option<Self> {
                Self::parse(word)
            }

            fn word(self) -> &'static str {
                self.as_str()
            }
        }
    };
}

pub(crate) use words;
