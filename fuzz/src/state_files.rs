//! One file of the state folder with any content, and everything that reads it: nothing panics, a record that is unreadable
//! hides no other, and no address is given to a second holder whose claim can be read. Run by the fuzzer, and over the
//! corpus by ipam's tests.

use ipam::{Holder, Ipam, IpamConfig};
use node_state::StateDir;
use node_state::record::AttachmentKey;
use serde_json::{Map, json};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

const NETWORK: &str = "slash32";

fn key(container: &str) -> AttachmentKey {
    AttachmentKey {
        network: NETWORK.into(),
        container_id: container.into(),
        ifname: "eth0".into(),
    }
}

fn config() -> IpamConfig {
    let object = Map::from_iter([("ranges".to_owned(), json!([[{"subnet": "10.0.0.0/29"}]]))]);
    IpamConfig::parse(&object, None).expect("a sound configuration")
}

/// The first byte says which file; the rest is its content.
pub(crate) fn run(bytes: &[u8]) {
    let Some((which, content)) = bytes.split_first() else {
        return;
    };
    let Ok(root) = tempfile::Builder::new().prefix("s").tempdir_in("/dev/shm") else {
        return;
    };
    let state = StateDir::new(root.path().to_owned());
    let ipam = Ipam::open(state.ipam_dir(), NETWORK, Holder::Slash32);
    let kept = ipam.allocate(&key("kept"), &config(), &[]);
    let kept = kept.map(|allocation| allocation.leases);
    let _ = ipam.allocate(&key("gone"), &config(), &[]);
    let _ = ipam.release(&key("gone"));
    lay(root.path(), *which, content);

    let _ = state.list_records();
    let _ = state.read_record(&key("other"));
    let _ = state.read_ready();
    let _ = ipam.usage(&config());
    let claims = ipam.claims().unwrap_or_default();
    let spared = claims.iter().any(|claim| claim.owner == Some(key("kept")));
    for container in ["a", "b", "c"] {
        if let (Ok(given), Ok(kept)) = (ipam.allocate(&key(container), &config(), &[]), &kept) {
            let twice = given.leases.iter().any(|lease| kept.contains(lease));
            assert!(
                !(spared && twice),
                "an address was given out twice: {given:?}"
            );
        }
    }
    let _ = ipam.retain(&|claim| claim.owner == Some(key("kept")));
    let _ = ipam.release(&key("a"));
    let _ = ipam.release(&key("other"));
}

fn lay(root: &Path, which: u8, content: &[u8]) {
    let network = root.join("ipam").join(NETWORK);
    let other = key("other").host_link();
    let hash = other.trim_start_matches("s32").to_owned();
    let path = match which % 9 {
        0 => root.join("attachments").join(format!("{other}.json")),
        1 => root.join("ready"),
        2 => root.join("operations.jsonl"),
        3 => network.join("addresses/10.0.0.2"),
        4 => network.join("owners").join(hash),
        5 => network.join("released.4"),
        6 => network.join("mark.10.0.0.1-10.0.0.6"),
        7 => network.join("boot"),
        _ => network
            .join("owners")
            .join(key("kept").host_link().trim_start_matches("s32")),
    };
    if let Some(folder) = path.parent() {
        let _ = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
    }
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    if let Ok(mut file) = file {
        let _ = std::io::Write::write_all(&mut file, content);
    }
}
