//! What people write, on any bytes: for the fuzz targets, which see no private function, and for the test that reads their
//! corpus. In no build of the product.

use crate::conflist::compute_conflist;
use crate::desired::compute_desired;
use crate::facts::Facts;
use crate::nft::render::{TableModel, render_table};
use crate::nodes::document::read_nodes;
use crate::settings::raw::RawSettings;
use crate::settings::{Settings, Surroundings};
use crate::view::ClusterView;
use std::sync::OnceLock;

/// A settings file.
pub fn settings(bytes: &[u8]) {
    let Ok(raw) = RawSettings::parse(&String::from_utf8_lossy(bytes)) else {
        return;
    };
    if let Ok(settings) = Settings::from_raw(raw, &Surroundings::default()) {
        let _ = settings.effective();
    }
}

/// A document of Nodes, and all that is computed from it.
pub fn nodes(bytes: &[u8]) {
    let Ok(raw) = read_nodes(bytes) else { return };
    let view = ClusterView::from_nodes(&raw);
    let settings = of_node_a();
    let Ok(desired) = compute_desired(settings, &view, &Facts::default()) else {
        return;
    };
    let _ = compute_conflist(settings, &desired);
    let table = render_table(&TableModel {
        cluster: desired.cluster.clone(),
        ..TableModel::default()
    });
    // Nothing that a Node says may end a line and begin a rule.
    assert!(table.lines().all(|line| line.len() < 1000));
}

fn of_node_a() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let raw = RawSettings {
            node_name: Some("a".into()),
            ..RawSettings::default()
        };
        Settings::from_raw(raw, &Surroundings::default()).expect("sound settings")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(target: &str, run: fn(&[u8])) {
        let folder = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            run(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 5, "{count} entries of {target}");
    }

    #[test]
    fn the_corpus_of_settings_is_read_without_a_panic() {
        replay("settings", settings);
    }

    #[test]
    fn the_corpus_of_nodes_is_read_without_a_panic() {
        replay("nodes", nodes);
    }
}
