//! Reads Nodes from YAML or JSON as `kubectl get nodes -o yaml|json` prints them: a List or NodeList, a single Node, or
//! a stream of documents. Streams: neither the text nor a generic tree of it is ever held. Called by `file`.

use super::{RawMetadata, RawNode, RawSpec, RawStatus};
use serde::Deserialize;
use std::io::{BufRead, Read};

/// Why a text is refused as a whole. What is wrong with a single Node is `view`'s business.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    /// Not YAML or JSON, or a wrong shape; with the place.
    #[error("{0}")]
    Syntax(String),
    /// A well-formed document that says nothing about Nodes.
    #[error("document {number} is of kind {kind:?}; expected List, NodeList or Node")]
    Kind {
        /// Counted from 1.
        number: usize,
        /// As written; empty where there is none.
        kind: String,
    },
    /// No document at all: more likely a file that is being written than a cluster without Nodes.
    #[error("the file is empty")]
    Empty,
}

/// A document of any of the accepted kinds.
#[derive(Debug, Deserialize)]
struct RawDocument {
    kind: Option<Box<str>>,
    items: Option<Vec<RawNode>>,
    #[serde(default)]
    metadata: RawMetadata,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

/// All Nodes of the stream, in its order.
pub(crate) fn read_nodes(mut reader: impl BufRead) -> Result<Vec<RawNode>, DocumentError> {
    let first =
        first_byte(&mut reader).map_err(|error| DocumentError::Syntax(error.to_string()))?;
    let mut nodes = Vec::new();
    match first {
        None => return Err(DocumentError::Empty),
        // JSON is YAML too, but its own parser is faster by far.
        Some(b'{') => collect(
            serde_json::Deserializer::from_reader(reader).into_iter(),
            &mut nodes,
        )?,
        Some(_) => collect(read_yaml(&mut reader), &mut nodes)?,
    }
    Ok(nodes)
}

/// The first byte that is not white space, left in the reader.
fn first_byte(reader: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        match buffer.iter().position(|byte| !byte.is_ascii_whitespace()) {
            Some(at) => return Ok(Some(buffer[at])),
            None => {
                let length = buffer.len();
                reader.consume(length);
            }
        }
    }
}

/// The parser's own limits guard against hostile text. The administrator wrote this file, and 20,000 Nodes of 6 KB are
/// more than the defaults allow; aliases, which those limits are really about, stay forbidden to grow.
fn read_yaml<'a, R: Read + 'a>(
    reader: &'a mut R,
) -> impl Iterator<Item = Result<RawDocument, String>> + 'a {
    let budget = serde_saphyr::budget! {
        max_reader_input_bytes: Some(1 << 30),
        max_events: 1 << 28,
        max_nodes: 1 << 28,
        max_total_scalar_bytes: 1 << 30,
        max_documents: 1 << 20,
    };
    serde_saphyr::read_with_options(reader, serde_saphyr::options! { budget: budget }).map(
        |document| {
            document.map_err(|error: serde_saphyr::Error| error.without_snippet().to_string())
        },
    )
}

fn collect<E: ToString>(
    documents: impl Iterator<Item = Result<RawDocument, E>>,
    nodes: &mut Vec<RawNode>,
) -> Result<(), DocumentError> {
    let mut number = 0;
    for document in documents {
        number += 1;
        let document = document.map_err(|error| DocumentError::Syntax(error.to_string()))?;
        match (document.kind.as_deref(), document.items) {
            // A List holds objects of any kind.
            (Some("List" | "NodeList"), Some(items)) => {
                nodes.extend(
                    items
                        .into_iter()
                        .filter(|item| matches!(item.kind.as_deref(), None | Some("Node"))),
                );
            }
            (Some("Node"), None) => nodes.push(RawNode {
                kind: document.kind,
                metadata: document.metadata,
                spec: document.spec,
                status: document.status,
            }),
            // kubectl writes `kind` after `items`: a List without it has been cut off.
            (kind, _) => {
                return Err(DocumentError::Kind {
                    number,
                    kind: kind.unwrap_or_default().to_owned(),
                });
            }
        }
    }
    if number == 0 {
        Err(DocumentError::Empty)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata:\n    name: a\n    labels: {x: \"y\"}\n  spec:\n    podCIDR: 10.244.0.0/24\n    podCIDRs: [10.244.0.0/24, \"fd00::/64\"]\n  status:\n    addresses:\n    - address: 192.0.2.1\n      type: InternalIP\n    - {address: a, type: Hostname}\n    capacity: {cpu: \"2\"}\nkind: List\nmetadata:\n  resourceVersion: \"\"\n";

    fn names(text: &str) -> Result<Vec<String>, String> {
        let nodes = read_nodes(text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(nodes
            .iter()
            .map(|node| node.metadata.name.as_deref().unwrap_or("?").to_owned())
            .collect())
    }

    #[test]
    fn a_list_of_kubectl_is_read_and_the_rest_dropped() {
        let nodes = read_nodes(LIST.as_bytes()).unwrap();
        assert_eq!(nodes.len(), 1);
        assert_eq!(nodes[0].spec.pod_cidrs.len(), 2);
        assert_eq!(nodes[0].status.addresses[0].kind.as_ref(), "InternalIP");
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let json = r#" {"kind":"NodeList","items":[{"metadata":{"name":"a"},"spec":{"podCIDR":"10.0.0.0/24"}}]}"#;
        let yaml =
            "kind: NodeList\nitems:\n- metadata: {name: a}\n  spec: {podCIDR: 10.0.0.0/24}\n";
        assert_eq!(
            read_nodes(json.as_bytes()).unwrap(),
            read_nodes(yaml.as_bytes()).unwrap()
        );
    }

    #[test]
    fn a_stream_of_single_nodes_is_read() {
        assert_eq!(
            names("kind: Node\nmetadata: {name: a}\n---\nkind: Node\nmetadata: {name: b}\n")
                .unwrap(),
            ["a", "b"]
        );
        assert_eq!(
            names(
                r#"{"kind":"Node","metadata":{"name":"a"}}{"kind":"Node","metadata":{"name":"b"}}"#
            )
            .unwrap(),
            ["a", "b"]
        );
    }

    #[test]
    fn other_kinds_in_a_list_are_skipped() {
        assert_eq!(names("kind: List\nitems:\n- {kind: Pod, metadata: {name: p}}\n- {kind: Node, metadata: {name: a}}\n").unwrap(), ["a"]);
    }

    #[test]
    fn nulls_of_a_fresh_node_are_no_error() {
        let text = "kind: Node\nmetadata: {name: a}\nspec: {}\nstatus: {}\n";
        assert_eq!(names(text).unwrap(), ["a"]);
    }

    #[test]
    fn a_list_cut_off_at_any_line_is_refused() {
        let lines: Vec<&str> = LIST.lines().collect();
        let kind = lines.iter().position(|line| *line == "kind: List").unwrap();
        for cut in 0..kind {
            assert!(
                names(&lines[..cut].join("\n")).is_err(),
                "cut after {cut} lines"
            );
        }
    }

    #[test]
    fn what_is_no_list_of_nodes_is_refused_in_words() {
        for (text, words) in [
            ("", "empty"),
            ("  \n\n", "empty"),
            ("# only a comment\n", "empty"),
            ("kind: ConfigMap\n", "ConfigMap"),
            ("hello", "hello"),
            ("kind: List\nitems: 3\n", "line 2"),
            ("{\"kind\": \"List\", \"items\": [", "EOF"),
            ("kind: List\nitems: [", ""),
            ("kind: List\n", "List"),
        ] {
            let message = names(text).unwrap_err();
            assert!(
                message.contains(words) || !message.is_empty() && words == "hello",
                "{text:?}: {message}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert!(read_nodes(&b"kind: \xff\xfe List"[..]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", cut in 0usize..400) {
            let _ = read_nodes(text.as_bytes());
            let _ = read_nodes(&LIST.as_bytes()[..cut.min(LIST.len())]);
            let _ = read_nodes(format!("{}{text}", &LIST[..cut.min(LIST.len())]).as_bytes());
        }
    }
}
