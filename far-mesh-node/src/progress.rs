//! Progress of long work on standard error: a bar on a terminal, plain lines otherwise.

use std::{
    io::{self, IsTerminal, Write},
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Least time between two plain lines: a log stays readable, a silent minute does not look like a hang.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A bar that moves.
    Bar,
    /// A line now and then.
    Lines,
    /// Not at all.
    Silent,
}

/// The progress of one piece of work, in bytes. It may be moved from any thread.
#[derive(Debug)]
pub struct Meter(Shown);

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines(Mutex<Lines>),
    Silent,
}

#[derive(Debug)]
struct Lines {
    label: String,
    total: Option<u64>,
    done: u64,
    written: Instant,
}

impl Progress {
    /// A bar where standard error is a terminal, else lines.
    pub fn detect() -> Self {
        if io::stderr().is_terminal() { Self::Bar } else { Self::Lines }
    }

    /// Begins a piece of work of `total` bytes, where that is known.
    pub fn begin(self, label: &str, total: Option<u64>) -> Meter {
        Meter(match self {
            Self::Bar => Shown::Bar(bar(label, total)),
            Self::Lines => {
                line(format_args!(
                    "{label}{}",
                    total.map_or_else(String::new, |total| format!(": {}", HumanBytes(total)))
                ));
                Shown::Lines(Mutex::new(Lines { label: label.to_owned(), total, done: 0, written: Instant::now() }))
            }
            Self::Silent => Shown::Silent,
        })
    }

    /// Says something beside the work.
    pub fn say(self, text: &str) {
        if self != Self::Silent {
            line(format_args!("{text}"));
        }
    }
}

impl Meter {
    /// Sets what is done so far.
    pub fn set(&self, bytes: u64) {
        match &self.0 {
            Shown::Bar(bar) => bar.set_position(bytes),
            Shown::Lines(lines) => lines.lock().unwrap_or_else(|poison| poison.into_inner()).set(bytes),
            Shown::Silent => {}
        }
    }

    /// Corrects the total once it is known.
    pub fn set_total(&self, bytes: u64) {
        match &self.0 {
            Shown::Bar(bar) => {
                bar.set_length(bytes);
                bar.set_style(style(true));
            }
            Shown::Lines(lines) => lines.lock().unwrap_or_else(|poison| poison.into_inner()).total = Some(bytes),
            Shown::Silent => {}
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    fn set(&mut self, bytes: u64) {
        self.done = bytes;
        if self.written.elapsed() < LINE_INTERVAL {
            return;
        }
        self.written = Instant::now();
        match self.total {
            Some(total) if total > 0 => {
                let percent = u128::from(bytes) * 100 / u128::from(total);
                line(format_args!("{}: {} of {} ({percent}%)", self.label, HumanBytes(bytes), HumanBytes(total)));
            }
            _ => line(format_args!("{}: {}", self.label, HumanBytes(bytes))),
        }
    }
}

fn bar(label: &str, total: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_style(style(total.is_some()));
    bar.set_message(label.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn style(bounded: bool) -> ProgressStyle {
    let template = if bounded {
        "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"
    } else {
        "{msg} {spinner} {bytes} {bytes_per_sec} {elapsed}"
    };
    // A template that does not parse costs the looks, not the work.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn line(text: std::fmt::Arguments<'_>) {
    // A closed standard error must not end the work.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_parse() {
        for template in [true, false] {
            let bar = ProgressBar::hidden().with_style(style(template));
            bar.set_position(3);
            assert_eq!(bar.position(), 3);
        }
    }

    #[test]
    fn a_meter_counts_whatever_it_shows() {
        let meter = Progress::Lines.begin("reading", None);
        meter.set_total(10);
        meter.set(7);
        let Shown::Lines(lines) = &meter.0 else { panic!() };
        let lines = lines.lock().unwrap();
        assert_eq!((lines.done, lines.total), (7, Some(10)));
    }
}
