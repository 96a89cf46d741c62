//! The tail of the agent's log, from wherever it is kept: a named file, kubelet's folder of container logs, the journal.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Of each file.
const TAIL: u64 = 512 * 1024;
/// Where kubelet keeps the logs of containers, on the node itself.
const POD_LOGS: &str = "/var/log/pods";
/// The newest of them are enough.
const MOST_FILES: usize = 4;

/// (name in the archive, text); a log that cannot be had says why.
pub(super) fn read(named: Option<&Path>) -> Vec<(String, String)> {
    if let Some(path) = named {
        return vec![("log.txt".to_owned(), tail(path))];
    }
    let files = find_pod_logs();
    if !files.is_empty() {
        return files
            .iter()
            .enumerate()
            .map(|(number, path)| (format!("log-{number}.txt"), tail(path)))
            .collect();
    }
    let journal = dataplane::nft::list(
        "journalctl",
        &["--no-pager", "--unit", "slash32-agent", "--lines", "2000"],
    );
    let text = journal.unwrap_or_else(|error| {
        format!("no log was found: none under {POD_LOGS}, and {error}; name one with --log FILE\n")
    });
    vec![("log.txt".to_owned(), text)]
}

/// The newest first.
fn find_pod_logs() -> Vec<PathBuf> {
    let below = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let of_agent = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.contains("_slash32-agent-")
    };
    let pods = below(Path::new(POD_LOGS)).into_iter().filter(of_agent);
    let mut files: Vec<PathBuf> = pods
        .flat_map(|pod| below(&pod))
        .flat_map(|container| below(&container))
        .collect();
    files.sort_by_key(|path| {
        std::cmp::Reverse(path.metadata().and_then(|data| data.modified()).ok())
    });
    files.truncate(MOST_FILES);
    files
}

fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("read {}: {error}\n", path.display()),
    }
}
