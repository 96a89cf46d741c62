//! The fuzzer's corpus, each entry once: what it found stays found. `make fuzz` adds to it.

#![allow(clippy::unwrap_used)] // a test fails by panicking

#[path = "../../fuzz/src/cni_request.rs"]
mod cni_request;

#[test]
fn the_corpus_of_cni_request_is_read_without_a_panic() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/cni_request");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        cni_request::run(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 5, "{count} entries in {folder}");
}
