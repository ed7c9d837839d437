//! Progress bars on standard error, one per layer, and only on a terminal.

use std::io::IsTerminal as _;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::{Progress, Task};

const BYTES: &str = "{prefix:12} [{bar:30}] {bytes:>10}/{total_bytes:10} {binary_bytes_per_sec:>12} {msg}";
const COUNTED: &str = "{prefix:12} {spinner} {bytes:>10} {binary_bytes_per_sec:>12} {msg}";

/// Shows what is under way.
#[derive(Debug)]
pub(super) struct Bars {
    bars: MultiProgress,
}

impl Bars {
    pub(super) fn new(quiet: bool) -> Self {
        let visible = !quiet && std::io::stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target) }
    }
}

struct Bar(ProgressBar);

impl Progress for Bars {
    fn start(&self, name: &str, total: Option<u64>) -> Box<dyn Task> {
        let bar = self.bars.add(total.map_or_else(ProgressBar::no_length, ProgressBar::new));
        let template = if total.is_some() { BYTES } else { COUNTED };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(title(name));
        Box::new(Bar(bar))
    }
}

/// A member's name as far as it says something to people.
fn title(name: &str) -> String {
    let name = name.strip_suffix("/layer.tar").unwrap_or(name);
    let name = name.rsplit('/').next().unwrap_or(name);
    name.chars().take(12).collect()
}

impl Task for Bar {
    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn finish(&self, how: &str) {
        self.0.finish_with_message(how.to_owned());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if !self.0.is_finished() {
            self.0.abandon_with_message("failed");
        }
    }
}
