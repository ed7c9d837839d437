//! Keeps the machine's processors awake while requests come thick.
//!
//! Each request wakes a thread of the server, and its reply wakes the requesting thread. Where an idle processor sleeps
//! deeply - in a virtual machine it is given back to the host - each of the two takes some 40 microseconds, many times what
//! the request itself takes. The kernel can be asked for shorter sleep (Documentation/power/pm_qos_interface.rst); with
//! none at all idle processors poll. That costs power, so it is asked for only from the second request that closely
//! follows another, until none came for a moment. A kernel without a driver for sleep does not listen (kernel/sched/idle.c,
//! `cpuidle_idle_call`), and then nothing is asked.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Asks for a latency in microseconds, as a native 32-bit number, as long as it is open.
const DEVICE: &str = "/dev/cpu_dma_latency";
const NO_SLEEP: i32 = 0;
/// Which driver puts processors to sleep; `none` without one.
const DRIVER: &str = "/sys/devices/system/cpu/cpuidle/current_driver";
/// Set to anything, it leaves the processors alone.
const OFF: &str = "LAYERCTL_LET_SLEEP";
/// Requests at most this far apart come thick.
const THICK: Duration = Duration::from_micros(500);
/// How long after the last request it ends.
const MOMENT: Duration = Duration::from_millis(3);
/// How often the thread looks whether the mount is gone.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct CpuLatency {
    /// When the last request came while nothing was asked for, in microseconds.
    last: AtomicU64,
    /// How many came while it was.
    count: AtomicU64,
    asked: AtomicBool,
    began: Instant,
    thread: OnceLock<Thread>,
}

impl CpuLatency {
    /// Starts the thread, which ends with this. Without the right to ask the kernel, as for users other than root, it does
    /// nothing.
    pub(super) fn start() -> Arc<Self> {
        let cpu_latency = Arc::new(Self {
            last: AtomicU64::new(0),
            count: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            began: Instant::now(),
            thread: OnceLock::new(),
        });
        // error: what cannot be read or opened is not asked for, and costs only time.
        let is_heard = std::fs::read_to_string(DRIVER).is_ok_and(|driver| driver.trim() != "none");
        // error: what cannot be opened is not asked for either.
        if is_heard && std::env::var_os(OFF).is_none() && std::fs::File::options().write(true).open(DEVICE).is_ok() {
            let weak = Arc::downgrade(&cpu_latency);
            let run = move || ask_when_thick(&weak);
            // error: without the thread processors sleep as ever.
            if let Ok(started) = std::thread::Builder::new().name("cpu_latency".to_owned()).spawn(run) {
                cpu_latency.thread.get_or_init(|| started.thread().clone());
            }
        }
        cpu_latency
    }

    /// A request has come.
    pub(super) fn request(&self) {
        if self.asked.load(Relaxed) {
            self.count.fetch_add(1, Relaxed);
            return;
        }
        let Some(thread) = self.thread.get() else { return };
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let before = self.last.swap(now, Relaxed);
        if u128::from(now.saturating_sub(before)) < THICK.as_micros() && !self.asked.swap(true, Relaxed) {
            thread.unpark();
        }
    }
}

fn ask_when_thick(cpu_latency: &Weak<CpuLatency>) {
    loop {
        std::thread::park_timeout(PATIENCE);
        let Some(now) = cpu_latency.upgrade() else { return };
        if !now.asked.load(Relaxed) {
            continue;
        }
        let asking = std::fs::File::options().write(true).open(DEVICE);
        // error: the processors sleep as ever.
        if let Ok(mut device) = asking.as_ref() {
            // error: then they do too.
            device.write_all(&NO_SLEEP.to_ne_bytes()).unwrap_or_default();
        }
        let mut seen = None;
        while seen.replace(now.count.load(Relaxed)) != Some(now.count.load(Relaxed)) {
            std::thread::sleep(MOMENT);
        }
        drop(asking);
        now.asked.store(false, Relaxed);
    }
}
