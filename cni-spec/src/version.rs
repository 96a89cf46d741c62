//! The versions of the specification that Slash32 speaks, and the answer to VERSION.
//!
//! None may ever be dropped while an attachment made with it can exist: DEL checks the version too (G12).

use crate::json;

/// A spec version that Slash32 speaks; the order is by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecVersion {
    /// Legacy result shape (`ip4`, `ip6`); also what an absent `cniVersion` means (G11).
    V0_1_0,
    /// Adds VERSION.
    V0_2_0,
    /// `interfaces` and `ips`, chaining, runtimeConfig.
    V0_3_0,
    /// A typing error of 0.3.0 mended; same result.
    V0_3_1,
    /// Adds CHECK; DEL gets prevResult.
    V0_4_0,
    /// Lists only; `ips[].version` is gone.
    V1_0_0,
    /// Adds GC and STATUS, and MTU and others to results.
    V1_1_0,
}

impl SpecVersion {
    /// All of them, oldest first.
    pub const ALL: [SpecVersion; 7] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];
    /// The version to speak where nobody says which.
    pub const NEWEST: SpecVersion = Self::V1_1_0;

    /// As it is written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Exact match, as libcni does it, not a semver range (G11); None for anything else.
    pub fn parse(text: &str) -> Option<SpecVersion> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
    }

    /// 0.1.0 and 0.2.0: results with `ip4` and `ip6` in the place of lists.
    pub(crate) fn has_legacy_result(self) -> bool {
        self <= Self::V0_2_0
    }
}

impl std::fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The supported versions as a list for a sentence.
pub(crate) fn supported_list() -> String {
    SpecVersion::ALL.map(SpecVersion::as_str).join(", ")
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionDocument<'a> {
    cni_version: &'a str,
    supported_versions: [&'static str; 7],
}

/// The answer to VERSION, one line of JSON (V1). Echoes the input's `cniVersion`, also one that we do not speak; anything
/// else on stdin, nothing included, is no error, and the newest version is told.
pub fn version_document(stdin: &[u8]) -> String {
    let input = json::decode(stdin).ok();
    let echoed = input
        .as_ref()
        .and_then(|value| value.as_object())
        .and_then(|map| json::find(map, "cniVersion"))
        .and_then(|value| value.as_str())
        .filter(|text| !text.is_empty());
    let document = VersionDocument {
        cni_version: echoed.unwrap_or(SpecVersion::NEWEST.as_str()),
        supported_versions: SpecVersion::ALL.map(SpecVersion::as_str),
    };
    serde_json::to_string(&document).expect("strings always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn document(stdin: &[u8]) -> Value {
        serde_json::from_str(&version_document(stdin)).expect("valid JSON")
    }

    #[test]
    fn v1_version_echoes_the_input_version() {
        for said in ["0.4.0", "1.0.0", "9.9.9"] {
            let stdin = json!({ "cniVersion": said }).to_string();
            assert_eq!(document(stdin.as_bytes())["cniVersion"], said);
        }
        assert_eq!(
            document(br#"{"CNIVERSION":"0.3.1"}"#)["cniVersion"],
            "0.3.1"
        );
    }

    #[test]
    fn v1_version_accepts_empty_and_garbage_stdin() {
        for stdin in [
            &b""[..],
            b"garbage",
            b"[]",
            b"null",
            b"{\"cniVersion\":7}",
            b"{\"cniVersion\":\"\"}",
            b"\xff\xfe",
        ] {
            assert_eq!(document(stdin)["cniVersion"], "1.1.0");
        }
    }

    #[test]
    fn v2_version_lists_all_seven_versions() {
        let listed = document(b"")["supportedVersions"].clone();
        assert_eq!(
            listed,
            json!([
                "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"
            ])
        );
    }

    #[test]
    fn g11_version_match_is_exact() {
        for version in SpecVersion::ALL {
            assert_eq!(SpecVersion::parse(version.as_str()), Some(version));
        }
        for text in ["", "1.0", "v1.0.0", "1.0.0 ", "1.1.1", "0.4", "2.0.0"] {
            assert_eq!(SpecVersion::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn versions_are_ordered_by_age() {
        assert!(SpecVersion::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
