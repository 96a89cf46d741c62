//! Sysctls: read first, written only where they differ.
//!
//! Reading first keeps the node's log and audit quiet, and works where `/proc/sys` is read-only and all is right already.
//! Below `net/` the kernel shows the sysctls of the namespace of the calling thread.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{KernelError, Result};

/// Where the kernel's sysctls are, unless an agent in a container was told otherwise.
pub const PROC_SYS: &str = "/proc/sys";

/// Makes the sysctl `key` (as `net/ipv4/ip_forward`) under `root` have `value`. True when it was written.
pub fn ensure_sysctl(root: &Path, key: &str, value: &str) -> Result<bool> {
    let path = path_of(root, key, value)?;
    let current = read(&path, || {
        format!("set sysctl {key} to {value}: read {}", path.display())
    })?;
    if current == value {
        return Ok(false);
    }
    fs::write(&path, value).map_err(|e| {
        let what = format!(
            "set sysctl {key} from {current} to {value}: write {}",
            path.display()
        );
        KernelError::from_io(what, &e)
    })?;
    Ok(true)
}

/// The value of the sysctl `key` under `root`, without white space around it.
pub fn read_sysctl(root: &Path, key: &str) -> Result<String> {
    let path = path_of(root, key, "")?;
    read(&path, || format!("read sysctl {}", path.display()))
}

/// On the host's side of one pod: lets `dnat` send to this link what came to 127.0.0.1. Needed for host ports on the
/// loopback address; only on the pods' links, never for the whole node. True when it was written.
pub fn enable_route_localnet(root: &Path, link: &str) -> Result<bool> {
    ensure_sysctl(root, &format!("net/ipv4/conf/{link}/route_localnet"), "1")
}

/// Joins without leaving `root`: a link's name comes from outside.
fn path_of(root: &Path, key: &str, value: &str) -> Result<PathBuf> {
    let plain = !key.is_empty() && key.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if plain && !value.contains(['\n', '\0']) {
        return Ok(root.join(key));
    }
    Err(KernelError::new(
        format!("use sysctl {key:?} with value {value:?}"),
        libc::EINVAL,
    ))
}

fn read(path: &Path, what: impl Fn() -> String) -> Result<String> {
    let text = fs::read_to_string(path).map_err(|e| KernelError::from_io(what(), &e))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_value_is_not_written() {
        let root = std::env::temp_dir().join(format!("slash32-sysctl-{}", std::process::id()));
        fs::create_dir_all(root.join("net/ipv4")).unwrap();
        let file = root.join("net/ipv4/ip_forward");
        fs::write(&file, "1\n").unwrap();
        assert!(!ensure_sysctl(&root, "net/ipv4/ip_forward", "1").unwrap());
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            "1\n",
            "left as it was, newline and all"
        );
        assert!(ensure_sysctl(&root, "net/ipv4/ip_forward", "0").unwrap());
        assert_eq!(read_sysctl(&root, "net/ipv4/ip_forward").unwrap(), "0");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn an_absent_key_is_not_found_and_the_error_names_path_and_value() {
        let error = ensure_sysctl(
            Path::new(PROC_SYS),
            "net/ipv4/conf/nolink/route_localnet",
            "1",
        )
        .expect_err("absent");
        assert!(error.is_not_found());
        let text = error.to_string();
        assert!(
            text.contains("/proc/sys/net/ipv4/conf/nolink/route_localnet") && text.contains("to 1"),
            "{text}"
        );
    }

    #[test]
    fn a_key_cannot_leave_its_root() {
        for key in ["net/../../etc/passwd", "", "/etc/passwd", "net//x"] {
            assert_eq!(
                read_sysctl(Path::new(PROC_SYS), key).expect_err(key).errno,
                libc::EINVAL
            );
        }
    }
}
