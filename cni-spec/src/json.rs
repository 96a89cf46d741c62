//! JSON as Go reads it: keys in any case, the last duplicate wins, null is absent (X2, G10).
//!
//! Runtimes are written in Go, whose decoder ignores case; containerd sends `HostPort` where the convention says `hostPort`.
//! A parser that compares keys byte for byte ignores such values in silence. Every document of this crate is decoded and
//! looked up here; other crates use `find` on the maps that they get.

mod decode;
mod read;

pub use decode::decode;
pub(crate) use read::{BadValue, list, number, object, string, strings, text};

use serde_json::{Map, Value};

/// The value of `key`, whatever the case of its letters; the exact spelling first.
///
/// In a map made by [`decode`] no two spellings of a key exist. In any other, of several inexact ones the last in the map's
/// order is taken.
pub fn find<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).or_else(|| {
        map.iter()
            .rev()
            .find(|(name, _)| same_key(name, key))
            .map(|(_, value)| value)
    })
}

/// Whether Go's decoder takes the two for the same key: by Unicode simple folding, in which two letters outside ASCII fold
/// to letters inside it.
fn same_key(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
        || (!left.is_ascii() && left.chars().map(fold).eq(right.chars().map(fold)))
}

fn fold(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => letter.to_ascii_lowercase(),
    }
}

/// A value for an error message: quoted, control characters escaped, cut where it is long.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn x2_keys_are_found_in_any_case() {
        let conf = map(json!({ "HostPort": 80, "hostip": "", "KEY": 1 }));
        assert_eq!(find(&conf, "hostPort"), Some(&json!(80)));
        assert_eq!(find(&conf, "hostIP"), Some(&json!("")));
        assert_eq!(find(&conf, "hostPorts"), None);
    }

    #[test]
    fn g10_the_two_letters_that_go_folds_into_ascii_are_folded() {
        let conf = map(json!({ "ho\u{17f}tPort": 80, "\u{212a}ey": 1 }));
        assert_eq!(find(&conf, "hostPort"), Some(&json!(80)));
        assert_eq!(find(&conf, "key"), Some(&json!(1)));
        assert_eq!(find(&map(json!({ "höst": 1 })), "host"), None);
    }

    #[test]
    fn the_exact_spelling_is_preferred() {
        assert_eq!(
            find(&map(json!({ "MTU": 1, "mtu": 2, "mtU": 3 })), "mtu"),
            Some(&json!(2))
        );
    }

    #[test]
    fn long_and_ugly_values_are_quoted_short_and_escaped() {
        assert_eq!(quote("a\nb\u{7}"), r#""a\nb\u{7}""#);
        assert_eq!(
            quote(&"é".repeat(500)),
            format!("\"{}\"...", "é".repeat(80))
        );
    }
}
