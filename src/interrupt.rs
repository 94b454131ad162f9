//! Ctrl-C and SIGTERM: a flag that long work looks at between its pieces.

use crate::exit::Failure;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on a signal sets the flag instead of ending the process, so that cleaning up still happens.
pub fn listen() -> Result<(), Failure> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::SeqCst))
        .map_err(|e| Failure::Ours(format!("cannot listen for Ctrl-C: {e}")))
}

/// Fails once the flag is set.
pub fn poll() -> Result<(), Failure> {
    if INTERRUPTED.load(Ordering::SeqCst) { Err(Failure::Interrupted) } else { Ok(()) }
}
