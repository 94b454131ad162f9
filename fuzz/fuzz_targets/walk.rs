//! [`windtunnel_fuzz::walk`] under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    windtunnel_fuzz::walk(data);
});
