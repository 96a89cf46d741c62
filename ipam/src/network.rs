//! One network's address management: where it lies, and whether it can be written to. The verbs are in `allocate.rs`,
//! `release.rs`, `retain.rs` and `inspect.rs`.

use crate::claim::Holder;
use crate::error::IpamError;
use crate::store::Store;
use node_state::record::AttachmentKey;
use std::path::PathBuf;

/// The store of one network: `<data_dir>/<network>/`.
///
/// Cheap to make; opens nothing until it is asked for something. All changes are made under one lock per network with
/// a bounded wait; looking needs no lock.
#[derive(Debug)]
pub struct Ipam {
    pub(crate) data_dir: PathBuf,
    pub(crate) name: String,
    pub(crate) holder: Holder,
}

impl Ipam {
    /// The claims of `network` below `data_dir`. Touches nothing.
    pub fn open(data_dir: impl Into<PathBuf>, network: &str, holder: Holder) -> Ipam {
        Ipam {
            data_dir: data_dir.into(),
            name: folder_name(network),
            holder,
        }
    }

    /// The network's folder.
    pub fn dir(&self) -> PathBuf {
        self.data_dir.join(&self.name)
    }

    /// STATUS (S2): true where the folder can be made and written to, tried by a real file.
    pub fn probe_writable(&self) -> Result<(), IpamError> {
        let store = Store::ensure(self)?;
        store.folder.write("probe", b"probe")?;
        store.folder.unlink("probe")?;
        Ok(())
    }
}

/// A network's name is a file name by the CNI rules (G6); whatever else comes must not lead out of `data_dir`.
fn folder_name(network: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = network.len() <= 200 && network.chars().all(plain);
    if fits && network.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return network.to_owned();
    }
    let key = AttachmentKey {
        network: network.to_owned(),
        container_id: String::new(),
        ifname: String::new(),
    };
    format!("~{}", key.hash12())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn no_network_name_leads_out_of_the_data_folder() {
        for name in [
            "../x",
            "/etc",
            "..",
            ".",
            "",
            "a/b",
            "-a",
            "é",
            &"x".repeat(300),
        ] {
            let dir = Ipam::open("/data", name, Holder::Slash32).dir();
            assert_eq!(dir.parent(), Some(Path::new("/data")), "{name}");
            assert!(
                dir.file_name().unwrap().to_str().unwrap().starts_with('~'),
                "{name}"
            );
        }
        assert_eq!(
            Ipam::open("/data", "slash32.v-1_a", Holder::Slash32).dir(),
            Path::new("/data/slash32.v-1_a")
        );
    }
}
