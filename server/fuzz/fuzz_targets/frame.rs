#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pams_fuzz::frame::check(bytes));
