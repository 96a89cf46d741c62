//! The kernel's answers, hostile ones included; the exchange itself is proven on a real kernel in `dataplane/tests`.

use super::*;
use proptest::prelude::*;

fn error_message(code: i32, text: Option<&str>) -> Vec<u8> {
    let mut payload = code.to_ne_bytes().to_vec();
    payload.extend_from_slice(&[0; MESSAGE_HEADER]);
    if let Some(text) = text {
        crate::wire::attribute::put_string(&mut payload, NLMSGERR_ATTR_MSG, text);
    }
    payload
}

#[test]
fn an_acknowledgement_is_no_refusal() {
    let payload = error_message(0, None);
    assert_eq!(
        refusal(&Message {
            kind: NLMSG_ERROR,
            flags: F_CAPPED,
            sequence: 1,
            payload: &payload
        }),
        None
    );
}

#[test]
fn the_kernels_words_are_read_behind_the_capped_header() {
    let payload = error_message(-libc::EINVAL, Some("Nexthop has invalid gateway"));
    let message = Message {
        kind: NLMSG_ERROR,
        flags: F_CAPPED | F_ACK_TLVS,
        sequence: 1,
        payload: &payload,
    };
    let expected = Refusal {
        errno: libc::EINVAL,
        text: Some("Nexthop has invalid gateway".into()),
    };
    assert_eq!(refusal(&message), Some(expected));
}

#[test]
fn an_error_without_words_is_read_too() {
    let payload = error_message(-libc::EPERM, None);
    let message = Message {
        kind: NLMSG_ERROR,
        flags: 0,
        sequence: 1,
        payload: &payload,
    };
    assert_eq!(refusal(&message), Some(Refusal::new(libc::EPERM)));
}

#[test]
fn the_end_of_a_dump_may_carry_an_errno() {
    let payload = (-libc::EINTR).to_ne_bytes();
    let message = Message {
        kind: NLMSG_DONE,
        flags: 0,
        sequence: 1,
        payload: &payload,
    };
    assert_eq!(refusal(&message), Some(Refusal::new(libc::EINTR)));
    assert_eq!(
        refusal(&Message {
            payload: &[],
            ..message
        }),
        None
    );
}

proptest! {
    #[test]
    fn hostile_datagrams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for message in messages(&bytes) {
            let _ = refusal(&message);
        }
    }
}
