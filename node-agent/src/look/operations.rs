//! The last lines of the plugin's log.

use node_state::oplog::Operation;
use node_state::{StateDir, StateError};

/// At most `count`, the newest last. The file is bounded (4 MiB), and read in pieces.
pub(super) fn read_last(state: &StateDir, count: usize) -> Result<Vec<Operation>, StateError> {
    let (mut last, mut offset) = (Vec::new(), 0);
    loop {
        let (operations, next) = state.read_operations(offset)?;
        last.extend(operations);
        last.drain(..last.len().saturating_sub(count));
        // Smaller: the file was started anew meanwhile; its beginning is the next answer.
        if next <= offset {
            return Ok(last);
        }
        offset = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_are_kept_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("s"));
        assert_eq!(read_last(&state, 2).unwrap(), []);
        for at_ms in 1..=5 {
            let operation = Operation {
                at_ms,
                command: "ADD".into(),
                network: "slash32".into(),
                container_id: "c".into(),
                ifname: "eth0".into(),
                duration_us: 1,
                code: 0,
                error: String::new(),
            };
            state.append_operation(&operation).unwrap();
        }
        let last = read_last(&state, 2).unwrap();
        let times: Vec<u64> = last.iter().map(|operation| operation.at_ms).collect();
        assert_eq!(times, [4, 5]);
    }
}
