#![no_main]

#[path = "../src/state_files.rs"]
mod state_files;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| state_files::run(bytes));
