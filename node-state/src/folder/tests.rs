use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

fn text(error: Result<Folder, StateError>) -> String {
    error.unwrap_err().to_string()
}

#[test]
fn link_file_and_open_folder_in_our_place_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("real")).unwrap();
    symlink(at("real"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    std::fs::write(at("file"), "").unwrap();
    std::fs::create_dir(at("open")).unwrap();
    std::fs::set_permissions(at("open"), PermissionsExt::from_mode(0o1777)).unwrap();

    assert!(text(Folder::ensure(&at("link"))).contains("symbolic link"));
    assert!(text(Folder::ensure(&at("dangling"))).contains("symbolic link"));
    assert!(!at("nowhere").exists());
    assert!(text(Folder::ensure(&at("file"))).contains("not a folder"));
    assert!(text(Folder::ensure(&at("open"))).contains("mode 1777"));
    assert!(Folder::open(&at("link")).is_err() && Folder::open(&at("open")).is_err());

    let real = Folder::ensure(&at("real")).unwrap();
    symlink(at("real"), at("real/sub")).unwrap();
    assert!(text(real.ensure_sub("sub")).contains("symbolic link"));
    // A link in the middle of the path is the administrator's: /var/run is one.
    assert!(Folder::ensure(&at("link/below")).is_ok());
}

#[test]
fn folder_of_another_user_is_refused() {
    assert_eq!(trust::distrust(0, 0o40755, 0), None);
    assert_eq!(trust::distrust(1000, 0o40755, 1000), None);
    assert!(
        trust::distrust(1000, 0o40700, 0)
            .unwrap()
            .contains("belongs to uid 1000")
    );
    assert!(
        trust::distrust(65534, 0o40700, 0)
            .unwrap()
            .contains("belongs to uid 65534")
    );
    assert!(
        trust::distrust(0, 0o40770, 0)
            .unwrap()
            .contains("mode 0770")
    );

    // On a real folder: given away where we may, else somebody else's (an ordinary user finds root's everywhere).
    let dir = tempfile::tempdir().unwrap();
    let given = dir.path().join("theirs");
    std::fs::create_dir(&given).unwrap();
    let gave = std::os::unix::fs::chown(&given, Some(1), None).is_ok();
    let theirs = if gave {
        given.as_path()
    } else {
        Path::new("/proc")
    };
    if gave || !nix::unistd::geteuid().is_root() {
        assert!(text(Folder::ensure(theirs)).contains("belongs to uid"));
    }
}

#[test]
fn files_are_never_opened_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "kept").unwrap();
    let folder = Folder::ensure(&dir.path().join("f")).unwrap();
    symlink(&secret, folder.path_of("x")).unwrap();
    symlink(&secret, folder.path_of(".y.new")).unwrap();
    assert!(folder.read("x").is_err());
    assert!(folder.write("y", b"overwritten").is_err());
    folder.write("x", b"new").unwrap();
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "kept");
    assert_eq!(folder.read("x").unwrap().unwrap(), b"new");
}

#[test]
fn fifo_and_huge_file_neither_hang_nor_fill_memory() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::ensure(&dir.path().join("f")).unwrap();
    nix::unistd::mkfifo(&folder.path_of("fifo"), Mode::S_IRWXU).unwrap();
    assert_eq!(folder.read("fifo").unwrap().unwrap(), b"");
    File::create(folder.path_of("huge"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    assert!(matches!(
        folder.read("huge"),
        Err(StateError::Unreadable { .. })
    ));
}

#[test]
fn readers_see_whole_files_while_two_write() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::ensure(&dir.path().join("f")).unwrap();
    let contents = [vec![b'a'; 3000], vec![b'b'; 17], vec![b'c'; 900]];
    folder.write("x", &contents[0]).unwrap();
    std::thread::scope(|scope| {
        for content in &contents {
            let folder = &folder;
            scope.spawn(move || (0..300).for_each(|_| folder.write("x", content).unwrap()));
        }
        for _ in 0..2000 {
            let read = folder.read("x").unwrap().unwrap();
            assert!(contents.contains(&read), "torn: {} bytes", read.len());
        }
    });
    assert_eq!(folder.entries().unwrap().len(), 1);
    assert!(!folder.path_of(".x.new").exists());
}

#[test]
fn longer_left_over_does_not_show_through() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::ensure(&dir.path().join("f")).unwrap();
    std::fs::write(
        folder.path_of(".x.new"),
        "the long left-over of a killed process",
    )
    .unwrap();
    folder.write("x", b"short").unwrap();
    assert_eq!(folder.read("x").unwrap().unwrap(), b"short");
}
