//! When to propose: at once when there is work, else at a heartbeat.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use commonware_runtime::Clock;

use crate::{executor::Executor, pool::Pool};

/// A timer that did not go away although its block came (there were too many for one block) is tried again this much
/// later, not at once.
const STUCK_TIMER_DELAY: Duration = Duration::from_millis(100);

/// Decides when the next block is due.
#[derive(Debug)]
pub(crate) struct Pace {
    pool: Pool,
    executor: Executor,
    heartbeat: Duration,
    interval_min: Duration,
    last: Mutex<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    at: SystemTime,
    due_ms: Option<u64>,
}

impl Pace {
    pub(crate) const fn new(
        pool: Pool,
        executor: Executor,
        heartbeat: Duration,
        interval_min: Duration,
    ) -> Self {
        let last = Mutex::new(Last {
            at: UNIX_EPOCH,
            due_ms: None,
        });
        Self {
            pool,
            executor,
            heartbeat,
            interval_min,
            last,
        }
    }

    /// Waits until a block should be proposed on a parent of this time: transactions wait, a timer of the market is due,
    /// or the heartbeat came. Where others propose too, the parent is younger than this validator's own last block.
    pub(crate) async fn wait(&self, clock: &impl Clock, parent: Option<SystemTime>) {
        let mut last = *self.lock();
        // A parent from the future is another clock's; it is waited for as long as one of this one's.
        last.at = last
            .at
            .max(parent.unwrap_or(UNIX_EPOCH).min(clock.current()));
        let heartbeat = last.at + self.heartbeat;
        clock.sleep_until(last.at + self.interval_min).await;
        let due_ms = self.executor.next_due().map(market::Timestamp::unix_millis);
        let mut until = heartbeat;
        if let Some(due_ms) = due_ms {
            let due = UNIX_EPOCH + Duration::from_millis(due_ms);
            let stuck = last.due_ms == Some(due_ms) && due <= last.at;
            until = until.min(if stuck {
                last.at + STUCK_TIMER_DELAY
            } else {
                due
            });
        }
        while !self.pool.has_work() {
            tokio::select! {
                () = clock.sleep_until(until) => break,
                () = self.pool.work() => {}
            }
        }
        *self.lock() = Last {
            at: clock.current(),
            due_ms,
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
