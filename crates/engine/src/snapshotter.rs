//! When a snapshot is written: of durable rows, folded, and never of the writer's state.

use crate::load::Loaded;
use crate::ports::{SnapshotFault, Snapshots};
use florin_core::id::Seq;
use florin_core::snapshot;

/// How often snapshots are written.
#[derive(Debug, Clone)]
pub struct SnapshotterConfig {
    /// After this many rows.
    pub rows_max: u64,
    /// After this long, where there was at least one row, in milliseconds.
    pub time_max_ms: u64,
    /// The build that is named in them.
    pub build: String,
}

/// Writes snapshots when they are due.
#[derive(Debug)]
pub struct Snapshotter {
    config: SnapshotterConfig,
    last: Seq,
    last_ms: u64,
}

impl Snapshotter {
    /// A snapshotter in a process that was started from the snapshot of row `at`.
    pub fn new(config: SnapshotterConfig, at: Seq, now_ms: u64) -> Snapshotter {
        Snapshotter { config, last: at, last_ms: now_ms }
    }

    /// The row of the last snapshot that this process wrote or started from.
    pub fn last(&self) -> Seq {
        self.last
    }

    /// Whether one is due for a state folded up to `at`.
    pub fn is_due(&self, at: Seq, now_ms: u64) -> bool {
        let rows = at.0.saturating_sub(self.last.0);
        let is_old = now_ms.saturating_sub(self.last_ms) >= self.config.time_max_ms;
        rows >= self.config.rows_max || (rows > 0 && is_old)
    }

    /// Begins one of row `at`. Whatever comes of it, the next is due as if it had been written: a snapshot only saves time,
    /// and a store that hangs must not be asked for one at every step.
    pub fn begin(&mut self, at: Seq, now_ms: u64) {
        (self.last, self.last_ms) = (at, now_ms);
    }

    /// Writes one, begun with it.
    ///
    /// # Errors
    /// The store's fault.
    pub fn write(&mut self, loaded: &Loaded, snapshots: &mut dyn Snapshots, now_ms: u64) -> Result<(), SnapshotFault> {
        self.begin(loaded.place.seq, now_ms);
        let (header, chunks) = snapshot::write(&loaded.state, loaded.place.hash, &self.config.build);
        snapshots.put(&header, &chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_due_by_rows_or_by_time_but_never_without_a_row() {
        let config = SnapshotterConfig { rows_max: 10, time_max_ms: 1_000, build: String::new() };
        let snapshotter = Snapshotter::new(config, Seq(5), 100);
        let cases = [(5, 9_999, false), (6, 1_099, false), (6, 1_100, true), (14, 100, false), (15, 100, true)];
        for (at, now_ms, due) in cases {
            assert_eq!(snapshotter.is_due(Seq(at), now_ms), due, "row {at} at {now_ms}");
        }
    }
}
