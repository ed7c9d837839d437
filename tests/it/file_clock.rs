//! The clock from which the kernel takes the times of files: it moves in steps, of up to 10 ms where nothing is late.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Returns when whatever is changed from now on gets a later time than all that was changed before.
pub(crate) fn moves_on() {
    let now = clock_gettime(ClockId::Realtime);
    while clock_gettime(ClockId::RealtimeCoarse) <= now {
        std::thread::sleep(Duration::from_millis(1));
    }
}
