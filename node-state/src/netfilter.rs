//! `netfilter`: which kinds of iptables hold host ports on this node, one word a line. The agent writes it before it lays
//! such rules and shortens it after it has removed them; without the file there are none, and host ports are elements of the
//! nftables table. The plugin reads it under the host-port lock (docs/decisions/0006).

use crate::folder::Folder;
use crate::{StateDir, StateError};

const NETFILTER: &str = "netfilter";

impl StateDir {
    /// The words; empty where there is no file.
    pub fn read_netfilter(&self) -> Result<Vec<String>, StateError> {
        let Some(folder) = Folder::open(self.root())? else {
            return Ok(Vec::new());
        };
        let text = folder.read(NETFILTER)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Writes the words, whole or not at all; none removes the file. What is right already is left alone.
    pub fn write_netfilter(&self, words: &[&str]) -> Result<(), StateError> {
        if self.read_netfilter()? == words {
            return Ok(());
        }
        let folder = Folder::ensure(self.root())?;
        if words.is_empty() {
            return folder.remove(NETFILTER).map(drop);
        }
        folder.write(NETFILTER, (words.join("\n") + "\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("s"));
        assert!(state.read_netfilter().unwrap().is_empty());
        state.write_netfilter(&[]).unwrap();
        assert!(!state.root().exists(), "nothing to write, nothing made");
        state
            .write_netfilter(&["iptables-legacy", "iptables-nft"])
            .unwrap();
        assert_eq!(
            state.read_netfilter().unwrap(),
            ["iptables-legacy", "iptables-nft"]
        );
        state.write_netfilter(&[]).unwrap();
        assert!(!state.root().join("netfilter").exists());
    }
}
