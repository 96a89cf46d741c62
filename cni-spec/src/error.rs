//! What a plugin answers when it fails: the spec's error document and its codes (G15, G16).
//!
//! Built by everything in this crate and by the plugins, which map their own errors to a code in one exhaustive match; read
//! back from a delegated IPAM plugin, whose error is passed on as it is (A3).

use crate::{json, version::SpecVersion};

/// The codes of the specification and of libcni (G16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// 1: the configuration's version is not ours, or has no such verb.
    IncompatibleVersion,
    /// 2: a field that we cannot honour; the message holds its key and value.
    UnsupportedField,
    /// 3: the container is unknown, so the runtime need not clean up. Never while anything is held.
    UnknownContainer,
    /// 4: a CNI_* variable is missing or bad; the message names it.
    InvalidEnvironment,
    /// 5: reading or writing failed (stdin, state folder).
    Io,
    /// 6: stdin is not the JSON that it should be.
    Decode,
    /// 7: the network configuration is wrong.
    InvalidConfig,
    /// 8: CNI_NETNS is not a usable namespace (libcni's constant, not in the spec's table).
    InvalidNetns,
    /// 11: a passing condition.
    TryAgainLater,
    /// 50: STATUS: ADD cannot be served.
    NotAvailable,
    /// 51: STATUS: ADD cannot be served, and existing pods may have limited connectivity.
    LimitedConnectivity,
    /// 100 and above: the plugin's own. Also carries any other number that a delegated plugin answered.
    Plugin(u32),
    /// 999: libcni's "internal".
    Internal,
}

impl ErrorCode {
    /// Every code that has a name of its own.
    const NAMED: [ErrorCode; 12] = [
        Self::IncompatibleVersion,
        Self::UnsupportedField,
        Self::UnknownContainer,
        Self::InvalidEnvironment,
        Self::Io,
        Self::Decode,
        Self::InvalidConfig,
        Self::InvalidNetns,
        Self::TryAgainLater,
        Self::NotAvailable,
        Self::LimitedConnectivity,
        Self::Internal,
    ];

    /// The number in the document.
    pub fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::UnknownContainer => 3,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::InvalidNetns => 8,
            Self::TryAgainLater => 11,
            Self::NotAvailable => 50,
            Self::LimitedConnectivity => 51,
            Self::Plugin(number) => number,
            Self::Internal => 999,
        }
    }

    /// The code of a number; one without a name is kept as `Plugin`.
    pub fn from_number(number: u32) -> ErrorCode {
        Self::NAMED
            .into_iter()
            .find(|code| code.number() == number)
            .unwrap_or(Self::Plugin(number))
    }
}

/// What a plugin answers when it fails: `msg` short, `details` long (G15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// What kind of failure; runtimes act on some of the numbers.
    pub code: ErrorCode,
    /// One short line: what was attempted, with which values.
    pub msg: String,
    /// The cause at length, and what to do.
    pub details: Option<String>,
}

#[derive(serde::Serialize)]
struct ErrorDocument<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'static str,
    code: u32,
    msg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a str>,
}

impl CniError {
    /// An error without details.
    pub fn new(code: ErrorCode, msg: impl Into<String>) -> Self {
        CniError {
            code,
            msg: msg.into(),
            details: None,
        }
    }

    /// The same error with details, in the place of any that it had.
    pub fn with_details(self, details: impl Into<String>) -> Self {
        CniError {
            details: Some(details.into()),
            ..self
        }
    }

    /// One line of JSON: cniVersion, code, msg, details (G15). To be printed on stdout, with an exit code other than 0 (G13).
    pub fn to_json(&self, version: SpecVersion) -> String {
        let document = ErrorDocument {
            cni_version: version.as_str(),
            code: self.code.number(),
            msg: &self.msg,
            details: self.details.as_deref(),
        };
        serde_json::to_string(&document).expect("strings and numbers always serialise")
    }

    /// The error that a delegated plugin printed (A3); None where the bytes are no error document, that is, no JSON object with a numeric
    /// `code` or a `msg`.
    pub fn from_json(document: &[u8]) -> Option<CniError> {
        let value = json::decode(document).ok()?;
        let map = value.as_object()?;
        let text = |key| {
            json::find(map, key)
                .and_then(|value| value.as_str())
                .filter(|text| !text.is_empty())
        };
        let number = match json::find(map, "code") {
            Some(code) => u32::try_from(code.as_u64()?).ok()?,
            None => text("msg").map(|_| 0)?,
        };
        Some(CniError {
            code: ErrorCode::from_number(number),
            msg: text("msg").unwrap_or_default().to_owned(),
            details: text("details").map(str::to_owned),
        })
    }
}

impl std::fmt::Display for CniError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.details {
            Some(details) => write!(f, "{}; {details}", self.msg),
            None => f.write_str(&self.msg),
        }
    }
}

impl std::error::Error for CniError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g15_the_document_is_one_line_with_version_code_msg_and_details() {
        let error = CniError::new(ErrorCode::InvalidConfig, "bad \"mtu\"\n").with_details("why");
        let expected = r#"{"cniVersion":"0.4.0","code":7,"msg":"bad \"mtu\"\n","details":"why"}"#;
        assert_eq!(error.to_json(SpecVersion::V0_4_0), expected);
        assert_eq!(
            CniError::new(ErrorCode::Io, "x").to_json(SpecVersion::NEWEST),
            r#"{"cniVersion":"1.1.0","code":5,"msg":"x"}"#
        );
    }

    #[test]
    fn g16_every_code_survives_its_number() {
        for code in ErrorCode::NAMED
            .into_iter()
            .chain([ErrorCode::Plugin(100), ErrorCode::Plugin(0)])
        {
            assert_eq!(ErrorCode::from_number(code.number()), code);
        }
        let numbers: Vec<u32> = ErrorCode::NAMED.map(ErrorCode::number).to_vec();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51, 999]);
    }

    #[test]
    fn a3_a_delegated_plugins_error_is_read_back_whole() {
        let error = CniError::new(ErrorCode::Plugin(117), "pool full").with_details("10.0.0.0/29");
        assert_eq!(
            CniError::from_json(error.to_json(SpecVersion::V1_0_0).as_bytes()),
            Some(error)
        );
        let shouting = CniError::from_json(br#"{"CODE":11,"Msg":"later"}"#).expect("an error");
        assert_eq!(
            (shouting.code, shouting.msg.as_str()),
            (ErrorCode::TryAgainLater, "later")
        );
    }

    #[test]
    fn a3_what_is_no_error_document_is_not_taken_for_one() {
        for text in [
            &b""[..],
            b"boom",
            b"{}",
            b"[]",
            b"null",
            b"{\"code\":\"7\"}",
            b"{\"code\":-1}",
            b"{\"code\":99999999999}",
        ] {
            assert_eq!(
                CniError::from_json(text),
                None,
                "{}",
                String::from_utf8_lossy(text)
            );
        }
    }

    #[test]
    fn display_joins_msg_and_details() {
        let error = CniError::new(ErrorCode::Io, "read stdin").with_details("broken pipe");
        assert_eq!(error.to_string(), "read stdin; broken pipe");
        assert_eq!(
            CniError::new(ErrorCode::Io, "read stdin").to_string(),
            "read stdin"
        );
    }
}
