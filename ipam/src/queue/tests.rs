use super::*;
use crate::network::Ipam;
use crate::store::Store;

fn with_store(test: impl FnOnce(&Locked<'_>)) {
    let dir = tempfile::tempdir().unwrap();
    let ipam = Ipam::open(dir.path(), "n", crate::Holder::Slash32);
    let store = Store::ensure(&ipam).unwrap();
    let locked = store.lock().unwrap();
    test(&locked);
}

fn open<'a>(locked: &'a Locked<'_>) -> Queue<'a> {
    Queue::open(locked, true).unwrap()
}

fn waiting(queue: &Queue<'_>) -> Vec<u128> {
    let mut all = Vec::new();
    queue
        .each(|waiting| {
            all.push(waiting.number);
            Ok(true)
        })
        .unwrap();
    all
}

fn take(locked: &Locked<'_>, queue: &mut Queue<'_>, number: u128) {
    let first = waiting(queue)[0] == number;
    let record = queue.find(number).unwrap().unwrap();
    queue.take(locked, record, first).unwrap();
}

#[test]
fn order_is_that_of_release_through_takes_and_reopening() {
    with_store(|locked| {
        let mut queue = open(locked);
        for number in [7, 3, 9, 5] {
            queue.push(locked, number).unwrap();
        }
        assert_eq!(waiting(&queue), [7, 3, 9, 5]);
        take(locked, &mut queue, 9);
        take(locked, &mut queue, 7);
        assert_eq!((waiting(&queue), queue.len()), (vec![3, 5], 2));
        let mut queue = open(locked);
        assert_eq!((waiting(&queue), queue.len()), (vec![3, 5], 2));
        take(locked, &mut queue, 3);
        take(locked, &mut queue, 5);
        assert_eq!((waiting(&open(locked)), open(locked).len()), (vec![], 0));
        assert!(!open(locked).may_hold(5));
    });
}

#[test]
fn file_stays_as_long_as_what_waits() {
    with_store(|locked| {
        let mut expected: std::collections::VecDeque<u128> = (1..=100).collect();
        let mut queue = open(locked);
        expected
            .iter()
            .for_each(|number| queue.push(locked, *number).unwrap());
        for round in 0..5000 {
            // Every third from the middle, as another set's or a request would.
            let number = expected
                .remove(if round % 3 == 0 { 40 } else { 0 })
                .unwrap();
            let mut queue = open(locked);
            take(locked, &mut queue, number);
            queue.push(locked, number).unwrap();
            expected.push_back(number);
        }
        assert_eq!(waiting(&open(locked)), Vec::from(expected));
        let size = locked.folder.read("released.4").unwrap().unwrap().len();
        assert!(size < 64 << 10, "{size}");
    });
}

#[test]
fn taking_after_a_compaction_takes_the_right_one() {
    with_store(|locked| {
        let mut queue = open(locked);
        (1..=2000).for_each(|number| queue.push(locked, number).unwrap());
        for number in 1..=1500 {
            take(locked, &mut queue, number);
        }
        let before = queue.find(1800).unwrap().unwrap();
        queue.push(locked, 9999).unwrap();
        assert_ne!(queue.find(1800).unwrap().unwrap().index, before.index);
        queue.take(locked, before, false).unwrap();
        assert!(queue.find(1800).unwrap().is_none());
        assert_eq!(queue.len(), 500);
    });
}

#[test]
fn torn_tail_is_cut_and_torn_header_is_an_empty_queue() {
    with_store(|locked| {
        let mut queue = open(locked);
        (1..=3).for_each(|number| queue.push(locked, number).unwrap());
        let path = locked.folder.path_of("released.4");
        let whole = std::fs::read(&path).unwrap();

        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let mut queue = open(locked);
        assert_eq!(waiting(&queue), [1, 2]);
        queue.push(locked, 4).unwrap();
        assert_eq!(waiting(&open(locked)), [1, 2, 4]);

        for torn in [
            &whole[..0],
            &whole[..17],
            b"garbage of some length, longer than the header is",
        ] {
            std::fs::write(&path, torn).unwrap();
            let mut queue = open(locked);
            assert_eq!(waiting(&queue), [0u128; 0]);
            queue.push(locked, 8).unwrap();
            assert_eq!(waiting(&open(locked)), [8]);
        }
    });
}

#[test]
fn long_queue_goes_out_before_addresses_that_were_never_used() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = Ipam::open(dir.path(), "n", crate::Holder::Slash32);
    let ranges = serde_json::json!({"ranges": [[{"subnet": "10.0.0.0/8"}]]});
    let config = crate::IpamConfig::parse(ranges.as_object().unwrap(), None).unwrap();
    let first = config.sets[0].ranges[0].first_number();
    let store = Store::ensure(&ipam).unwrap();
    {
        let locked = store.lock().unwrap();
        let mut queue = open(&locked);
        (0..=LONG).for_each(|i| {
            queue
                .push(&locked, first + 500_000 + u128::from(i))
                .unwrap()
        });
    }
    let next = |container: &str| {
        let key = node_state::record::AttachmentKey {
            network: "n".into(),
            container_id: container.into(),
            ifname: "eth0".into(),
        };
        crate::number::from_ip(ipam.allocate(&key, &config, &[]).unwrap().leases[0].address)
    };
    assert_eq!(next("a"), first + 500_000, "the queue's oldest");
    assert_eq!(next("b"), first, "then the queue is short enough again");
}
