//! windtunnel. 
fn main() {}
