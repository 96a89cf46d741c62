use super::*;
use crate::{StateDir, StateError};
use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;

fn key(container: &str) -> AttachmentKey {
    AttachmentKey {
        network: "slash32".into(),
        container_id: container.into(),
        ifname: "eth0".into(),
    }
}

fn record(container: &str) -> AttachmentRecord {
    let key = key(container);
    AttachmentRecord {
        boot_id: "b5c4".into(),
        netns: NetnsId {
            path: "/var/run/netns/x".into(),
            dev: 4,
            ino: 4_026_532_000,
        },
        host_link: key.host_link(),
        addresses: vec![
            "10.244.1.2/32".parse().unwrap(),
            "fd00::2/128".parse().unwrap(),
        ],
        host_ports: vec![HostPort {
            host_ip: None,
            host_port: 8080,
            protocol: PortProtocol::Tcp,
            pod_ip: "10.244.1.2".parse().unwrap(),
            container_port: 80,
        }],
        shaped: false,
        mtu: Some(1500),
        mac: None,
        pod: Some(PodRef {
            namespace: "default".into(),
            name: "web".into(),
            uid: "u".into(),
        }),
        ipam_type: "slash32-ipam".into(),
        ipam_data_dir: None,
        created_ms: 1_800_000_000_000,
        key,
    }
}

fn state() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path().join("slash32"));
    (dir, state)
}

#[test]
fn hash12_never_changes_between_releases() {
    // Computed with Python: base64.b32encode(hashlib.sha256(b"".join(struct.pack(">Q", len(p)) + p ...)).digest()).
    // A change of these would orphan every link of a running node.
    assert_eq!(key("abc").hash12(), "flwcecpzvjnp");
    assert_eq!(key("abc").host_link(), "s32flwcecpzvjnp");
    assert_eq!(key("abc").host_link().len(), 15);
}

#[test]
fn parts_of_a_key_do_not_run_into_each_other() {
    let keys = [
        ("a", "bc", "d"),
        ("ab", "c", "d"),
        ("a", "b", "cd"),
        ("", "abc", "d"),
        ("abc", "", "d"),
    ];
    let hashes: HashSet<String> = keys
        .iter()
        .map(|(n, c, i)| {
            AttachmentKey {
                network: (*n).into(),
                container_id: (*c).into(),
                ifname: (*i).into(),
            }
            .hash12()
        })
        .collect();
    assert_eq!(hashes.len(), keys.len());
}

#[test]
fn record_is_written_read_listed_and_removed() {
    let (_dir, state) = state();
    assert_eq!(state.read_record(&key("a")).unwrap(), None);
    assert!(state.list_records().unwrap().0.is_empty());
    state.remove_record(&key("a")).unwrap();

    state.write_record(&record("a")).unwrap();
    state.write_record(&record("b")).unwrap();
    state.write_record(&record("b")).unwrap();
    assert_eq!(state.read_record(&key("a")).unwrap(), Some(record("a")));
    assert_eq!(state.list_records().unwrap().0.len(), 2);
    let file = state
        .root()
        .join(format!("attachments/{}.json", key("a").host_link()));
    assert_eq!(
        std::fs::metadata(file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    state.remove_record(&key("a")).unwrap();
    state.remove_record(&key("a")).unwrap();
    assert_eq!(state.list_records().unwrap().0, vec![record("b")]);
}

#[test]
fn unreadable_records_are_told_and_never_hide_the_others_i11() {
    let (_dir, state) = state();
    state.write_record(&record("good")).unwrap();
    let folder = state.root().join("attachments");
    std::fs::write(folder.join(format!("{}.json", key("torn").host_link())), "").unwrap();
    std::fs::write(folder.join("s32garbage.json"), b"{\"network\":\xff").unwrap();
    let good = folder.join(format!("{}.json", key("good").host_link()));
    std::fs::copy(good, folder.join("s32copy.json")).unwrap();

    let (records, errors) = state.list_records().unwrap();
    assert_eq!(records, vec![record("good")]);
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(
        errors
            .iter()
            .all(|e| matches!(e, StateError::Unreadable { .. }))
    );
    assert!(matches!(
        state.read_record(&key("torn")),
        Err(StateError::Unreadable { .. })
    ));
    state.remove_record(&key("torn")).unwrap();
    assert_eq!(state.read_record(&key("torn")).unwrap(), None);
}

#[test]
fn left_over_of_a_killed_writer_is_not_listed_and_goes_with_its_record() {
    let (_dir, state) = state();
    state.write_record(&record("a")).unwrap();
    let temporary = state
        .root()
        .join(format!("attachments/.{}.json.new", key("a").host_link()));
    std::fs::write(&temporary, "a half").unwrap();
    let (records, errors) = state.list_records().unwrap();
    assert_eq!(records, vec![record("a")]);
    assert!(errors.is_empty(), "{errors:?}");
    state.write_record(&record("a")).unwrap();
    assert!(!temporary.exists());

    std::fs::write(&temporary, "a half").unwrap();
    state.remove_record(&key("a")).unwrap();
    assert_eq!(
        std::fs::read_dir(state.root().join("attachments"))
            .unwrap()
            .count(),
        0
    );
}
