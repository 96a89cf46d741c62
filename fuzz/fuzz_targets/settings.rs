#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| node_agent::fuzzing::settings(bytes));
