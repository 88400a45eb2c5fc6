//! What to do about SIGTERM, which the standard library has no words for.
#![expect(
    unsafe_code,
    reason = "std cannot change what a signal does, and this crate has no dependencies"
)]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

const SIGTERM: i32 = 15;
const SIG_IGN: usize = 1;
const SIG_ERR: usize = usize::MAX;

static TERMINATED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    /// `signal(2)`; the handler is a function's address or one of the `SIG_` constants.
    fn signal(number: i32, handler: usize) -> usize;
}

/// Makes this process deaf to SIGTERM.
pub(crate) fn ignore_terminate() -> io::Result<()> {
    install(SIG_IGN)
}

/// Makes SIGTERM set a mark that [`terminated`] reads.
pub(crate) fn catch_terminate() -> io::Result<()> {
    install(on_terminate as *const () as usize)
}

/// Tells whether SIGTERM has come since [`catch_terminate`].
pub(crate) fn terminated() -> bool {
    TERMINATED.load(Ordering::Relaxed)
}

extern "C" fn on_terminate(_number: i32) {
    // A store to an atomic is among the few things a handler may do.
    TERMINATED.store(true, Ordering::Relaxed);
}

fn install(handler: usize) -> io::Result<()> {
    // SAFETY: the handler is SIG_IGN or a function of the right type that lives as long as the
    // process and does nothing but store to an atomic.
    let before = unsafe { signal(SIGTERM, handler) };
    if before == SIG_ERR {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
