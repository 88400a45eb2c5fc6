//! Progress: one line a phase. On a terminal the line is live and settles into a tick; elsewhere a phase is one line of
//! text once it has settled; with `-q` or JSON there is none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::output::{Output, Style};

/// Fast enough to look alive, slow enough to cost nothing.
const FRAME: Duration = Duration::from_millis(100);
/// Width of the phase's name, as the longest one has.
const NAME_WIDTH: usize = 10;

/// Tells of phases.
#[derive(Debug)]
pub(crate) struct Progress {
    shared: Arc<Shared>,
    painter: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    output: Arc<Output>,
    phase: Mutex<Option<Phase>>,
    stopped: AtomicBool,
}

#[derive(Clone, Debug)]
struct Phase {
    name: &'static str,
    text: String,
    frame: usize,
}

impl Progress {
    /// Starts without a phase.
    pub(crate) fn new(output: &Arc<Output>) -> Self {
        let shared = Arc::new(Shared {
            output: Arc::clone(output),
            phase: Mutex::new(None),
            stopped: AtomicBool::new(false),
        });
        let painter = output.is_live().then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.paint_until_stopped())
        });
        Self { shared, painter }
    }

    /// Begins a phase, or changes the text of the one under way.
    pub(crate) fn phase(&self, name: &'static str, text: impl Into<String>) {
        let mut phase = self.shared.lock();
        let frame = phase.as_ref().map_or(0, |phase| phase.frame);
        *phase = Some(Phase {
            name,
            text: text.into(),
            frame,
        });
        self.shared.draw(phase.as_mut());
    }

    /// Settles the phase as done.
    pub(crate) fn done(&self, name: &'static str, text: &str) {
        self.settle(Style::Good, name, text);
    }

    /// Settles the phase as something to know about.
    pub(crate) fn note(&self, name: &'static str, text: &str) {
        self.settle(Style::Warning, name, text);
    }

    /// Settles the phase as failed.
    pub(crate) fn failed(&self, name: &'static str, text: &str) {
        self.settle(Style::Bad, name, text);
    }

    /// Takes the live line away, if there is one: something else is going to be printed.
    pub(crate) fn clear(&self) {
        let mut phase = self.shared.lock();
        self.shared.wipe(phase.take().is_some());
    }

    fn settle(&self, style: Style, name: &'static str, text: &str) {
        let mut phase = self.shared.lock();
        self.shared.wipe(phase.take().is_some());
        let mark = self.shared.output.mark(style);
        self.shared
            .output
            .say(&format!("{mark} {name:NAME_WIDTH$} {text}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(painter) = self.painter.take() {
            // The painter sleeps at most a frame, and does not panic: it only writes.
            painter.thread().unpark();
            drop(painter.join());
        }
        self.clear();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Phase>> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paint_until_stopped(&self) {
        while !self.stopped.load(Ordering::Relaxed) {
            self.draw(self.lock().as_mut());
            std::thread::park_timeout(FRAME);
        }
    }

    fn draw(&self, phase: Option<&mut Phase>) {
        let Some(phase) = phase else { return };
        if !self.output.is_live() {
            return;
        }
        let frames = self.output.spinner();
        let frame = frames
            .get(phase.frame % frames.len())
            .copied()
            .unwrap_or(" ");
        phase.frame = phase.frame.wrapping_add(1);
        let Phase { name, text, .. } = phase;
        let frame = self.output.paint(Style::Name, frame);
        self.output
            .error_bytes(format!("\r\x1b[2K{frame} {name:NAME_WIDTH$} {text}").as_bytes());
    }

    fn wipe(&self, drawn: bool) {
        if drawn && self.output.is_live() {
            self.output.error_bytes(b"\r\x1b[2K");
        }
    }
}
