use super::*;

fn operation(container: &str) -> Operation {
    Operation {
        at_ms: 1,
        command: "ADD".into(),
        network: "slash32".into(),
        container_id: container.into(),
        ifname: "eth0".into(),
        duration_us: 1200,
        code: 0,
        error: String::new(),
    }
}

fn state() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path().join("s"));
    (dir, state)
}

fn names(operations: &[Operation]) -> Vec<&str> {
    operations
        .iter()
        .map(|op| op.container_id.as_str())
        .collect()
}

#[test]
fn reader_goes_on_where_it_stopped() {
    let (_dir, state) = state();
    assert_eq!(state.read_operations(99).unwrap(), (vec![], 0));
    state.append_operation(&operation("a")).unwrap();
    state.append_operation(&operation("b")).unwrap();
    let (read, offset) = state.read_operations(0).unwrap();
    assert_eq!(read, vec![operation("a"), operation("b")]);
    assert_eq!(state.read_operations(offset).unwrap(), (vec![], offset));
    state.append_operation(&operation("c")).unwrap();
    assert_eq!(names(&state.read_operations(offset).unwrap().0), ["c"]);
}

#[test]
fn reader_starts_over_when_the_file_was_started_anew() {
    let (_dir, state) = state();
    for name in ["a", "b", "c"] {
        state.append_operation(&operation(name)).unwrap();
    }
    let (_, offset) = state.read_operations(0).unwrap();
    std::fs::write(state.root().join("operations.jsonl"), "").unwrap();
    state.append_operation(&operation("d")).unwrap();
    assert_eq!(names(&state.read_operations(offset).unwrap().0), ["d"]);
    // Grown past the old offset since: no line begins there.
    state
        .append_operation(&operation("a-longer-name-than-before"))
        .unwrap();
    state.append_operation(&operation("f")).unwrap();
    state.append_operation(&operation("g")).unwrap();
    assert_eq!(state.read_operations(offset).unwrap().0.len(), 4);
}

#[test]
fn torn_and_foreign_lines_are_skipped() {
    let (_dir, state) = state();
    state.append_operation(&operation("a")).unwrap();
    let path = state.root().join("operations.jsonl");
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    file.write_all(b"\xff\xfe garbage\n{\"atMs\":1}\n{\"atMs\":1,\"comm")
        .unwrap();
    let (read, offset) = state.read_operations(0).unwrap();
    assert_eq!(names(&read), ["a"]);
    assert!(
        offset < std::fs::metadata(&path).unwrap().len(),
        "the unfinished line is left for later"
    );
}

#[test]
fn file_is_bounded_whatever_is_logged() {
    let (_dir, state) = state();
    let mut long = operation("a");
    long.error = "ä".repeat(100_000);
    state.append_operation(&long).unwrap();
    let line = std::fs::metadata(state.root().join("operations.jsonl"))
        .unwrap()
        .len();
    for _ in 0..2500 {
        state.append_operation(&long).unwrap();
    }
    let size = std::fs::metadata(state.root().join("operations.jsonl"))
        .unwrap()
        .len();
    assert!(size <= FILE_LIMIT, "{size}");
    let (mut all, mut offset) = (0, 0);
    loop {
        let (read, next) = state.read_operations(offset).unwrap();
        all += read.len() as u64;
        if next == offset {
            break;
        }
        offset = next;
    }
    assert_eq!(offset, size);
    assert_eq!(
        all,
        size / line,
        "every line was read, the last one of a chunk too"
    );
}

#[test]
fn parallel_writers_lose_no_line() {
    let (_dir, state) = state();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let state = &state;
            scope.spawn(move || {
                (0..50).for_each(|i| {
                    state
                        .append_operation(&operation(&format!("{thread}-{i}")))
                        .unwrap()
                })
            });
        }
    });
    let (read, _) = state.read_operations(0).unwrap();
    let distinct: std::collections::HashSet<_> =
        names(&read).into_iter().map(str::to_owned).collect();
    assert_eq!(distinct.len(), 400);
}
