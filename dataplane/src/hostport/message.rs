//! Set-element messages of nftables (linux/netfilter/nf_tables.h).
//!
//! Written by hand: the crate's types hold all elements in one attribute, which ends at 64 KiB; here a big batch becomes
//! several messages of one transaction.

use super::element::Element;
use crate::names::NFT_TABLE;
use crate::nfnetlink::{HEADER, NFPROTO_INET, SUBSYS_NFTABLES, push};
use crate::wire::attribute::{Attribute, Attributes, nest, put, put_string};
use crate::wire::batch::Batch;
use crate::wire::message::Message;

pub(super) const NEWSETELEM: u16 = SUBSYS_NFTABLES << 8 | 12;
const GETSETELEM: u16 = SUBSYS_NFTABLES << 8 | 13;
pub(super) const DELSETELEM: u16 = SUBSYS_NFTABLES << 8 | 14;

const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEM: u16 = 1;
const ELEM_KEY: u16 = 1;
const ELEM_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;

/// Elements of one message: at most 64 bytes each, far below the 64 KiB of their attribute.
const CHUNK: usize = 500;

/// Appends messages with all elements, those of one set together.
pub(super) fn push_elements(batch: &mut Batch, kind: u16, flags: u16, elements: &[Element]) {
    for same_set in elements.chunk_by(|a, b| a.set == b.set) {
        for chunk in same_set.chunks(CHUNK) {
            push_list(batch, kind, flags, chunk[0].set, chunk);
        }
    }
}

/// Asks for the element of this key.
pub(super) fn push_get_element(batch: &mut Batch, element: &Element) {
    let key_only = Element {
        value: Vec::new(),
        ..element.clone()
    };
    push_list(batch, GETSETELEM, 0, element.set, &[key_only]);
}

/// Asks for all elements.
pub(super) fn push_get_set(batch: &mut Batch, set: &str, flags: u16) {
    push_list(batch, GETSETELEM, flags, set, &[]);
}

fn push_list(batch: &mut Batch, kind: u16, flags: u16, set: &str, elements: &[Element]) {
    push(batch, kind, flags, NFPROTO_INET, |out| {
        put_string(out, LIST_TABLE, NFT_TABLE);
        put_string(out, LIST_SET, set);
        if elements.is_empty() {
            return;
        }
        nest(out, LIST_ELEMENTS, |out| {
            for element in elements {
                nest(out, LIST_ELEM, |out| put_element(out, element));
            }
        });
    });
}

fn put_element(out: &mut Vec<u8>, element: &Element) {
    nest(out, ELEM_KEY, |out| put(out, DATA_VALUE, &element.key));
    if !element.value.is_empty() {
        nest(out, ELEM_DATA, |out| put(out, DATA_VALUE, &element.value));
    }
}

/// The elements of one of the kernel's messages.
pub(super) fn elements_from(message: &Message<'_>, set: &'static str) -> Vec<Element> {
    if message.kind != NEWSETELEM {
        return Vec::new();
    }
    let list = Attributes::after(message.payload, HEADER).find_kind(LIST_ELEMENTS);
    let element = |attribute: Attribute<'_>| {
        let part = |kind| {
            attribute
                .nested()
                .find_kind(kind)?
                .nested()
                .find_kind(DATA_VALUE)
        };
        let key = part(ELEM_KEY)?.value.to_vec();
        let value = part(ELEM_DATA)
            .map(|value| value.value.to_vec())
            .unwrap_or_default();
        Some(Element { set, key, value })
    };
    list.into_iter()
        .flat_map(|list| list.nested())
        .filter_map(element)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_big_batch_is_split_within_one_transaction() {
        let element = |i: u32| Element {
            set: "hostports4",
            key: i.to_be_bytes().repeat(3),
            value: vec![1; 8],
        };
        let elements: Vec<_> = (0..1200).map(element).collect();
        let batch =
            crate::nfnetlink::transaction(|batch| push_elements(batch, NEWSETELEM, 0, &elements));
        assert_eq!(batch.len(), 5, "begin, 500, 500, 200, end");
        assert_eq!(batch.answered(), Some(3), "the last message with content");
    }

    #[test]
    fn elements_are_read_back_from_their_message() {
        let elements = [Element {
            set: "hostports4",
            key: vec![1; 12],
            value: vec![2; 8],
        }];
        let mut batch = Batch::new();
        push_elements(&mut batch, NEWSETELEM, 0, &elements);
        let bytes = batch.number(1).to_vec();
        let message = crate::wire::message::messages(&bytes).next().unwrap();
        assert_eq!(elements_from(&message, "hostports4"), elements);
    }

    #[test]
    fn an_empty_transaction_waits_for_no_answer() {
        let batch = crate::nfnetlink::transaction(|batch| push_elements(batch, DELSETELEM, 0, &[]));
        assert_eq!(batch.answered(), None);
    }
}
