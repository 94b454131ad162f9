//! [`windtunnel_fuzz::packet`] under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    windtunnel_fuzz::packet(data);
});
