//! The conflist that the agent writes and the container runtime reads (K1-K4).
//!
//! Rendered by the agent alone, last of all; the file's name, its rename and its folder are the agent's affair.

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

/// What the agent decides about the conflist.
#[derive(Debug, Clone)]
pub struct ConflistSpec {
    /// The network's name (rule G6 for its characters); unique on the node.
    pub name: String,
    /// Bytes; None leaves it to the plugin.
    pub mtu: Option<u32>,
    /// The range sets: a pod gets one address of each. One set per family, from Node.spec.podCIDRs.
    pub ranges: Vec<Vec<IpNetwork>>,
    /// The state folder, where it is not the default.
    pub state_dir: Option<String>,
    /// Further plugins of the chain, verbatim.
    pub chained: Vec<Value>,
}

/// The versions that a runtime may choose from. None below 0.3.1: there are no lists before 0.3.0, whose text misspells `ips`.
const OFFERED: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// For libcni before 1.2, which does not know `cniVersions` and cannot parse a 1.1.0 result (K1).
const CONSERVATIVE: &str = "1.0.0";

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Conflist<'a> {
    cni_version: &'static str,
    cni_versions: [&'static str; 4],
    name: &'a str,
    plugins: Vec<Value>,
}

/// The conflist as text, indented, with a final newline.
pub fn render_conflist(spec: &ConflistSpec) -> String {
    let mut plugins = vec![render_plugin(spec)];
    plugins.extend(spec.chained.iter().cloned());
    let conflist = Conflist {
        cni_version: CONSERVATIVE,
        cni_versions: OFFERED,
        name: &spec.name,
        plugins,
    };
    let mut text = serde_json::to_string_pretty(&conflist)
        .expect("strings, numbers and values always serialise");
    text.push('\n');
    text
}

fn render_plugin(spec: &ConflistSpec) -> Value {
    let subnet =
        |net: &IpNetwork| json!({ "subnet": format!("{}/{}", net.network(), net.prefix()) });
    let ranges: Vec<Vec<Value>> = spec
        .ranges
        .iter()
        .map(|set| set.iter().map(subnet).collect())
        .collect();
    let mut plugin = json!({
        "type": "slash32",
        "capabilities": { "portMappings": true, "bandwidth": true, "ips": true, "mac": true, "ipRanges": true },
        "ipam": { "type": "slash32-ipam", "ranges": ranges },
    });
    if let Some(mtu) = spec.mtu {
        plugin["mtu"] = mtu.into();
    }
    if let Some(state_dir) = &spec.state_dir {
        plugin["stateDir"] = state_dir.as_str().into();
    }
    plugin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ConflistSpec {
        ConflistSpec {
            name: "slash32".to_owned(),
            mtu: Some(1480),
            ranges: vec![
                vec!["10.244.1.0/24".parse().expect("a network")],
                vec!["fd00:1::7/64".parse().expect("a network")],
            ],
            state_dir: None,
            chained: vec![],
        }
    }

    fn rendered(spec: &ConflistSpec) -> Value {
        serde_json::from_str(&render_conflist(spec)).expect("valid JSON")
    }

    #[test]
    fn k1_the_conflist_is_understood_by_old_and_new_runtimes() {
        let expected = json!({
            "cniVersion": "1.0.0",
            "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
            "name": "slash32",
            "plugins": [{
                "type": "slash32",
                "mtu": 1480,
                "capabilities": { "portMappings": true, "bandwidth": true, "ips": true, "mac": true, "ipRanges": true },
                "ipam": { "type": "slash32-ipam", "ranges": [[{ "subnet": "10.244.1.0/24" }], [{ "subnet": "fd00:1::/64" }]] },
            }],
        });
        assert_eq!(rendered(&spec()), expected);
    }

    #[test]
    fn chained_plugins_stand_verbatim_after_ours_and_the_state_folder_where_set() {
        let tuning = json!({ "type": "tuning", "Sysctl": { "net.core.somaxconn": "500" } });
        let conflist = rendered(&ConflistSpec {
            mtu: None,
            state_dir: Some("/run/other".to_owned()),
            chained: vec![tuning.clone()],
            ..spec()
        });
        let plugins = conflist["plugins"].as_array().expect("a list");
        assert_eq!(plugins.len(), 2);
        assert_eq!(plugins[0]["stateDir"], "/run/other");
        assert_eq!(plugins[0].get("mtu"), None);
        assert_eq!(plugins[1], tuning);
    }

    #[test]
    fn k4_no_type_holds_a_path_separator_and_the_text_ends_in_a_newline() {
        let text = render_conflist(&spec());
        assert!(
            text.ends_with("}\n") && text.starts_with("{\n  \"cniVersion\": \"1.0.0\""),
            "{text}"
        );
    }
}
