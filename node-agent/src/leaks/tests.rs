//! Who is chosen, and when. Freeing itself is proved on a real kernel (tests/kernel.rs).

use super::*;
use crate::facts::LinkFact;
use node_state::record::NetnsId;

fn key(container: &str) -> AttachmentKey {
    AttachmentKey {
        network: "slash32".into(),
        container_id: container.into(),
        ifname: "eth0".into(),
    }
}

fn record(container: &str, boot: &str) -> AttachmentRecord {
    AttachmentRecord {
        key: key(container),
        boot_id: boot.into(),
        netns: NetnsId {
            path: "/run/netns/x".into(),
            dev: 1,
            ino: 2,
        },
        host_link: format!("s32{container}"),
        addresses: vec!["10.244.0.2/32".parse().unwrap()],
        host_ports: Vec::new(),
        shaped: false,
        mtu: None,
        mac: None,
        pod: None,
        ipam_type: "slash32-ipam".into(),
        ipam_data_dir: None,
        created_ms: 0,
    }
}

fn facts_with(link: &str) -> Facts {
    let links = [(
        7,
        LinkFact {
            name: link.into(),
            mtu: 1500,
            tunnel: None,
        },
    )];
    Facts {
        down: Default::default(),
        links: links.into(),
        ..Facts::default()
    }
}

fn context(state: &StateDir, now: Instant) -> LeakContext<'_> {
    LeakContext {
        state,
        network: "slash32",
        boot_id: "now",
        grace: Duration::from_secs(300),
        now,
    }
}

fn chosen(
    leaks: &mut Leaks,
    context: &LeakContext<'_>,
    records: &[AttachmentRecord],
    facts: &Facts,
) -> usize {
    leaks.choose_records(context, records, facts).len()
}

#[test]
fn a_record_without_a_link_is_freed_after_the_grace_period_and_not_before() {
    let (state, start) = (StateDir::new("/nonexistent"), Instant::now());
    let (mut leaks, records) = (Leaks::default(), [record("a", "now")]);
    let none = Facts::default();
    assert_eq!(
        chosen(&mut leaks, &context(&state, start), &records, &none),
        0
    );
    assert_eq!(
        chosen(
            &mut leaks,
            &context(&state, start + Duration::from_secs(299)),
            &records,
            &none
        ),
        0
    );
    assert_eq!(
        chosen(
            &mut leaks,
            &context(&state, start + Duration::from_secs(300)),
            &records,
            &none
        ),
        1
    );
}

#[test]
fn a_link_that_comes_back_starts_the_period_anew() {
    let (state, start) = (StateDir::new("/nonexistent"), Instant::now());
    let (mut leaks, records) = (Leaks::default(), [record("a", "now")]);
    assert_eq!(
        chosen(
            &mut leaks,
            &context(&state, start),
            &records,
            &Facts::default()
        ),
        0
    );
    let later = start + Duration::from_secs(200);
    assert_eq!(
        chosen(
            &mut leaks,
            &context(&state, later),
            &records,
            &facts_with("s32a")
        ),
        0
    );
    let late = start + Duration::from_secs(400);
    assert_eq!(
        chosen(
            &mut leaks,
            &context(&state, late),
            &records,
            &Facts::default()
        ),
        0
    );
}

#[test]
fn a_record_of_another_boot_goes_at_once() {
    let (state, start) = (StateDir::new("/nonexistent"), Instant::now());
    let records = [record("a", "before")];
    assert_eq!(
        chosen(
            &mut Leaks::default(),
            &context(&state, start),
            &records,
            &Facts::default()
        ),
        1
    );
    // Whatever carries its name now belongs to somebody else's record.
    assert_eq!(
        chosen(
            &mut Leaks::default(),
            &context(&state, start),
            &records,
            &facts_with("s32a")
        ),
        1
    );
}

#[test]
fn only_claims_of_the_plugin_without_a_record_are_chosen() {
    let (state, start) = (StateDir::new("/nonexistent"), Instant::now());
    let claim = |last: u8, holder, owner: Option<&str>| Claim {
        address: IpAddr::from([10, 244, 0, last]),
        owner: owner.map(key),
        holder,
        boot_id: Some("now".into()),
        age: None,
    };
    let claims = [
        claim(2, Some(Holder::Slash32), Some("alive")),
        claim(3, Some(Holder::Slash32), Some("gone")),
        claim(4, Some(Holder::Standalone), Some("gone")),
        claim(5, None, None),
    ];
    let alive = key("alive");
    let keys = BTreeSet::from([&alive]);
    let store = (PathBuf::from("/x"), "slash32".to_owned());
    let mut leaks = Leaks::default();
    assert!(
        leaks
            .choose_claims(&context(&state, start), &store, &claims, &keys)
            .is_empty()
    );
    let late = start + Duration::from_secs(300);
    let chosen = leaks.choose_claims(&context(&state, late), &store, &claims, &keys);
    assert_eq!(chosen, BTreeSet::from([IpAddr::from([10, 244, 0, 3])]));
}
