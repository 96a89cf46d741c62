//! The file as people and ConfigMaps change it.

use super::*;
use std::os::unix::fs::symlink;

fn list(names: &[&str]) -> String {
    let items: String = names
        .iter()
        .map(|name| format!("- metadata: {{name: {name}}}\n"))
        .collect();
    format!("items:\n{items}kind: List\n")
}

/// The next answer within 5 s.
fn next(waker: &Waker) -> Result<Vec<String>, String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let wakes = waker.wait_until(deadline);
        match wakes.view {
            Some(Ok(view)) => {
                return Ok(view
                    .nodes
                    .iter()
                    .map(|node| node.name.to_string())
                    .collect());
            }
            Some(Err(problem)) => return Err(problem.text),
            None => assert!(Instant::now() < deadline, "no answer within 5 s"),
        }
    }
}

struct Running {
    waker: Arc<Waker>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(path: &Path) -> Running {
        let waker = Arc::new(Waker::default());
        let (path, shared) = (path.to_owned(), waker.clone());
        Running {
            waker,
            thread: Some(std::thread::spawn(move || watch(path, shared))),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.waker.stop();
        // Left to itself: it looks at the flag within POLL.
        drop(self.thread.take());
    }
}

#[test]
fn a_file_that_appears_changes_and_breaks_is_told_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    let running = Running::start(&path);
    assert!(next(&running.waker).unwrap_err().contains("nodes.yaml"));
    std::fs::write(&path, list(&["a"])).unwrap();
    assert_eq!(next(&running.waker).unwrap(), ["a"]);
    std::fs::write(&path, "items: [").unwrap();
    assert!(next(&running.waker).unwrap_err().contains("refused"));
    std::fs::write(&path, list(&["a", "b"])).unwrap();
    assert_eq!(next(&running.waker).unwrap(), ["a", "b"]);
}

#[test]
fn a_rename_over_the_file_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    std::fs::write(&path, list(&["a"])).unwrap();
    let running = Running::start(&path);
    assert_eq!(next(&running.waker).unwrap(), ["a"]);
    std::fs::write(dir.path().join("new"), list(&["b"])).unwrap();
    std::fs::rename(dir.path().join("new"), &path).unwrap();
    assert_eq!(next(&running.waker).unwrap(), ["b"]);
}

#[test]
fn the_symlink_swap_of_a_config_map_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    for (version, name) in [("v1", "a"), ("v2", "b")] {
        std::fs::create_dir(dir.path().join(version)).unwrap();
        std::fs::write(dir.path().join(version).join("nodes.yaml"), list(&[name])).unwrap();
    }
    symlink("v1", dir.path().join("..data")).unwrap();
    let path = dir.path().join("nodes.yaml");
    symlink("..data/nodes.yaml", &path).unwrap();
    let running = Running::start(&path);
    assert_eq!(next(&running.waker).unwrap(), ["a"]);
    symlink("v2", dir.path().join("..data_tmp")).unwrap();
    std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    assert_eq!(next(&running.waker).unwrap(), ["b"]);
}

#[test]
fn a_writer_in_small_pieces_is_waited_for() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    std::fs::write(&path, list(&["a"])).unwrap();
    let running = Running::start(&path);
    assert_eq!(next(&running.waker).unwrap(), ["a"]);
    // A stream of single Nodes is whole at every document: only the stillness tells that it is not.
    let mut file = std::fs::File::create(&path).unwrap();
    for name in ["a", "b", "c", "d"] {
        writeln!(file, "---\nkind: Node\nmetadata: {{name: {name}}}").unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(next(&running.waker).unwrap(), ["a", "b", "c", "d"]);
}

#[test]
fn a_directory_or_a_pipe_in_its_place_is_refused_without_blocking() {
    let dir = tempfile::tempdir().unwrap();
    assert!(
        read_view(dir.path())
            .unwrap_err()
            .text
            .contains("not a regular file")
    );
}
