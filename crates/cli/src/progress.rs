//! Progress of long work, on stderr and only on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the bar moves when nothing happens, so that a person sees that the process lives.
const TICK: Duration = Duration::from_millis(200);

/// A bar over `total` bytes of input; a spinner when nobody knows how many there are.
pub(crate) fn over_bytes(total: Option<u64>) -> ProgressBar {
    match total {
        Some(total) => bar(total, "{bar:30} {bytes}/{total_bytes}  {msg}  {elapsed}, {eta} left"),
        None => counting(),
    }
}

/// A bar over `total` things.
pub(crate) fn over_count(total: u64, what: &'static str) -> ProgressBar {
    let bar = bar(total, "{msg} {bar:30} {human_pos}/{human_len}  {elapsed}, {eta} left");
    bar.set_message(what);
    bar
}

/// A spinner for work without a known end.
pub(crate) fn counting() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_style(style("{spinner} {msg}  {elapsed}"));
    bar.enable_steady_tick(TICK);
    bar
}

fn bar(total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    bar.set_style(style(template));
    bar.enable_steady_tick(TICK);
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is one of the three above")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_valid() {
        over_bytes(Some(1)).finish_and_clear();
        over_bytes(None).finish_and_clear();
        over_count(1, "loading").finish_and_clear();
    }
}
