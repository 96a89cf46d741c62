//! The CNI configuration as the runtime sees it: our own file's content, and every other file of the folder by name and
//! plugin types. Never the content of others: that may hold credentials.

use crate::settings::Settings;
use serde_json::{Map, Value};
use std::path::Path;

/// One file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfFile {
    pub(crate) name: String,
    /// The `type` of each plugin, or why it cannot be read.
    pub(crate) types: Result<Vec<String>, String>,
}

/// Our file, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConflistLook {
    /// The MTU that new pods get.
    pub(crate) mtu: Option<u32>,
    /// The `ipam` object of our plugin.
    pub(crate) ipam: Map<String, Value>,
    /// As it is.
    pub(crate) text: String,
}

/// Our own file; `None` where there is none, or where it is no conflist of ours.
pub(super) fn read(settings: &Settings, blind: &mut Vec<String>) -> Option<ConflistLook> {
    let path = settings.cni_conf_dir.join(&settings.cni_conf_name);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            blind.push(format!("read {}: {error}", path.display()));
            return None;
        }
    };
    let found = parse(&text);
    if found.is_none() {
        blind.push(format!(
            "{} is not a CNI configuration with the plugin slash32",
            path.display()
        ));
    }
    found
}

fn parse(text: &str) -> Option<ConflistLook> {
    let document: Value = serde_json::from_str(text).ok()?;
    let plugins = document["plugins"].as_array()?;
    let ours = plugins.iter().find(|plugin| plugin["type"] == "slash32")?;
    Some(ConflistLook {
        mtu: ours["mtu"].as_u64().and_then(|mtu| mtu.try_into().ok()),
        ipam: ours["ipam"].as_object().cloned().unwrap_or_default(),
        text: text.to_owned(),
    })
}

/// Every file that a runtime would load, in the order in which it looks: the first one counts.
pub(crate) fn list(folder: &Path) -> std::io::Result<Vec<ConfFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // libcni: ConfFiles(dir, []string{".conf", ".conflist", ".json"}).
        let wanted = [".conf", ".conflist", ".json"];
        if wanted.iter().any(|ending| name.ends_with(ending)) && entry.path().is_file() {
            files.push(ConfFile {
                types: read_types(&entry.path()),
                name,
            });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn read_types(path: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let document: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let name = |plugin: &Value| plugin["type"].as_str().map(str::to_owned);
    let types: Vec<String> = match document["plugins"].as_array() {
        Some(plugins) => plugins.iter().filter_map(name).collect(),
        None => name(&document).into_iter().collect(),
    };
    if types.is_empty() {
        return Err("it names no plugin".to_owned());
    }
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_the_runtimes_order_with_their_plugins() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            (
                "10-slash32.conflist",
                r#"{"plugins": [{"type": "slash32"}]}"#,
            ),
            ("05-old.conf", r#"{"type": "bridge"}"#),
            ("00-torn.conflist", "{"),
            (".10-slash32.conflist.tmp", "x"),
            ("readme.txt", "x"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let files = list(dir.path()).unwrap();
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(
            names,
            ["00-torn.conflist", "05-old.conf", "10-slash32.conflist"]
        );
        assert!(files[0].types.is_err());
        assert_eq!(files[1].types, Ok(vec!["bridge".to_owned()]));
        assert_eq!(files[2].types, Ok(vec!["slash32".to_owned()]));
    }

    #[test]
    fn our_file_tells_mtu_and_ranges() {
        let text = r#"{"plugins": [{"type": "slash32", "mtu": 1450, "ipam": {"type": "slash32-ipam", "ranges": []}}]}"#;
        let look = parse(text).unwrap();
        assert_eq!(look.mtu, Some(1450));
        assert!(look.ipam.contains_key("ranges"));
        assert_eq!(parse(r#"{"plugins": [{"type": "bridge"}]}"#), None);
    }
}
