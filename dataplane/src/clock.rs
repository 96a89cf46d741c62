//! Whether the kernel's clock is kept in step (NTP), asked without changing it: adjtimex(2). Who calls: `doctor`.

/// True where a time daemon says so; false also where none runs. `None`: the kernel does not tell.
pub fn is_synchronised() -> Option<bool> {
    // SAFETY: an all-zero timex is valid, and with modes 0 the call only fills it in.
    let mut time: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a value that outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut time) };
    (state >= 0).then_some(time.status & libc::STA_UNSYNC == 0)
}
