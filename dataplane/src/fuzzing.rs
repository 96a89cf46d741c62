//! Every decoder of the kernel's answers, on any bytes: for the fuzz targets, which see no private function, and for the test
//! that reads their corpus. In no build of the product.

use crate::wire::attribute::Attributes;
use crate::wire::message::messages;
use crate::{address, conntrack, events, hostport, link, neighbour, route, shaping};

/// A datagram of route netlink.
pub fn netlink(bytes: &[u8]) {
    for message in messages(bytes) {
        let _ = crate::wire::message::refusal(&message);
        let _ = link::link_from(message);
        let _ = address::address_from(message);
        let _ = neighbour::neighbour_from(message);
        route::decode_any(message);
        shaping::decode_any(&message);
        let _ = events::route_event(&message);
        walk(message.payload, 0);
    }
}

/// A datagram of nfnetlink.
pub fn nfnetlink(bytes: &[u8]) {
    for message in messages(bytes) {
        let _ = crate::wire::message::refusal(&message);
        let _ = events::nft_event(&message);
        conntrack::decode_any(&message);
        hostport::decode_any(&message);
        walk(message.payload, 4);
    }
}

/// Attributes in attributes: ends, and never beyond the payload.
fn walk(payload: &[u8], header: usize) {
    for attribute in Attributes::after(payload, header).take(1000) {
        assert!(attribute.value.len() <= payload.len());
        let _ = (attribute.string(), attribute.ip(), attribute.mac());
        assert!(attribute.nested().take(1000).count() <= payload.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(target: &str, run: fn(&[u8])) {
        let folder = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).expect(&folder) {
            run(&std::fs::read(entry.expect("an entry").path()).expect("a file"));
            count += 1;
        }
        assert!(count > 5, "{count} entries in {folder}");
    }

    #[test]
    fn the_corpus_of_netlink_is_read_without_a_panic() {
        replay("netlink", netlink);
    }

    #[test]
    fn the_corpus_of_nfnetlink_is_read_without_a_panic() {
        replay("nfnetlink", nfnetlink);
    }
}
