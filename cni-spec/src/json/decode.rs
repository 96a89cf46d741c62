//! Bytes to a JSON value, with Go's answer to a key that stands twice in different case: the last one counts.
//!
//! serde_json's own `Value` keeps both spellings and sorts them, after which nobody can tell which came last.

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;

/// Objects that Go reads as maps, where `a` and `A` are two keys: only what is read as a struct ignores case.
const MAPS: [&str; 4] = [
    "args",
    "capabilities",
    "io.kubernetes.cri.pod-annotations",
    "sysctl",
];

/// Decodes one JSON document; bytes after it, nothing at all and invalid UTF-8 are errors (G8).
pub fn decode(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Tree { ignore_case: true }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Tree {
    ignore_case: bool,
}

impl<'de> DeserializeSeed<'de> for Tree {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        // Folded spelling to the one in `map`: a scan instead would be quadratic in a hostile document.
        let mut spellings = BTreeMap::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            let folded: String = key.chars().map(super::fold).collect();
            let child = Tree {
                ignore_case: self.ignore_case && !MAPS.contains(&folded.as_str()),
            };
            let value = entries.next_value_seed(child)?;
            if self.ignore_case
                && let Some(earlier) = spellings.insert(folded, key.clone())
            {
                map.remove(&earlier);
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn x2_the_last_duplicate_wins_in_any_spelling_and_depth() {
        let value = decode(br#"{"name":"a","list":[{"Port":1,"port":2,"PORT":3}],"NAME":"b"}"#)
            .expect("valid");
        assert_eq!(value, json!({ "NAME": "b", "list": [{ "PORT": 3 }] }));
        let value = decode(br#"{"a":1,"A":2,"a":3}"#).expect("valid");
        assert_eq!(value, json!({ "a": 3 }));
    }

    #[test]
    fn x6_annotations_and_args_keep_keys_that_differ_by_case() {
        let text = br#"{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":"1","A":"2"}},"args":{"x":{"y":1,"Y":2}}}"#;
        let expected: Value = serde_json::from_slice(text).expect("valid");
        assert_eq!(decode(text).expect("valid"), expected);
    }

    #[test]
    fn other_documents_are_what_serde_json_makes_of_them() {
        for text in [
            "null",
            "-3",
            "1.5",
            "18446744073709551615",
            "[]",
            "[1,[true,{}]]",
            r#"{"a":{"b":["\u00e9",null]}}"#,
        ] {
            let expected: Value = serde_json::from_str(text).expect("valid");
            assert_eq!(decode(text.as_bytes()).expect("valid"), expected);
        }
    }

    #[test]
    fn g8_trailing_bytes_nothing_and_bad_utf8_are_errors() {
        for text in [
            &b""[..],
            b"  ",
            b"{} {}",
            b"{}x",
            b"{",
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{}",
        ] {
            assert!(decode(text).is_err(), "{text:?}");
        }
        assert!(decode(b" {} \n").is_ok());
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_stack_overflow() {
        assert!(decode("[".repeat(1_000_000).as_bytes()).is_err());
    }
}
