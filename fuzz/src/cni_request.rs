//! A request: seven lines of environment, then stdin. Whatever comes, there is an answer, and it is a document that a
//! runtime can read. Run by the fuzzer, and over the corpus by cni-spec's tests.

use cni_spec::request::{Environment, Request, parse_request};
use cni_spec::result::CniResult;
use cni_spec::version::SpecVersion;

/// CNI_COMMAND, _CONTAINERID, _NETNS, _IFNAME, _ARGS, _PATH, a line that is ignored; the rest is stdin.
pub(crate) fn run(bytes: &[u8]) {
    let mut parts = bytes.splitn(8, |byte| *byte == b'\n');
    let mut line = || {
        let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        (!text.is_empty()).then_some(text)
    };
    let environment = Environment {
        command: line(),
        container_id: line(),
        netns: line(),
        ifname: line(),
        args: line(),
        path: line(),
        netns_override: line().is_some(),
    };
    let stdin = parts.next().unwrap_or_default();
    match parse_request(&environment, stdin) {
        Ok(Request::Add(attachment) | Request::Del(attachment) | Request::Check(attachment)) => {
            // What passed may stand in a path.
            let id = &attachment.id;
            assert!(!id.container_id.contains('/') && !id.network.contains('/'));
            assert!(!id.ifname.contains('/') && id.ifname.len() <= 15);
        }
        Ok(_) => {}
        Err(refusal) => {
            assert!(!refusal.error.msg.is_empty());
        }
    }
    for version in SpecVersion::ALL {
        if let Ok(result) = CniResult::from_slice(stdin, version) {
            // What can be told again is understood again.
            if let Ok(text) = result.to_json(version) {
                assert!(
                    CniResult::from_slice(text.as_bytes(), version).is_ok(),
                    "{text}"
                );
            }
        }
    }
}
