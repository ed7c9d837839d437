//! Where the figures were taken.

use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

#[derive(Debug)]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    memory_mib: u64,
    kernel: String,
    disk: String,
}

impl Machine {
    pub(crate) fn look(dir: &Path) -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.split_whitespace().next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) / 1024,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            disk: disk(dir).unwrap_or_else(|| "unknown file system".into()),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "processor": self.processor,
            "processors": self.processors,
            "memory_mib": self.memory_mib,
            "kernel": self.kernel,
            "file_system": self.disk,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, memory_mib, kernel, disk } = self;
        write!(f, "{processors} × {processor}, {memory_mib} MiB, Linux {kernel}, {disk}")
    }
}

/// The type and options of the file system that `dir` is on.
fn disk(dir: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let lines = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_, place, kind, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
        dir.starts_with(place).then(|| (place.len(), format!("{kind} ({options})")))
    });
    lines.max_by_key(|(length, _)| *length).map(|(_, text)| text)
}
