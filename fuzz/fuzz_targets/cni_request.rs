#![no_main]

#[path = "../src/cni_request.rs"]
mod cni_request;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cni_request::run(bytes));
