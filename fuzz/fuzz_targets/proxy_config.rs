//! [`windtunnel_fuzz::proxy_config`] under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    windtunnel_fuzz::proxy_config(data);
});
