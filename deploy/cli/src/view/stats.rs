//! Rows of `stats`: what two samples of a task say. Pure.

use berth_proto::pb;
use serde::Serialize;

use crate::ui::Row;
use crate::ui::human::{binary_size, size};
use crate::ui::listing::short_id;

/// A line of `stats`.
#[derive(Debug, Clone, Serialize)]
pub struct StatsRow {
    /// Task id.
    pub id: String,
    /// `service.slot`.
    pub name: String,
    /// Percent of one cpu; null before the second sample.
    pub cpu_percent: Option<f64>,
    /// Bytes.
    pub memory: u64,
    /// Bytes; 0 is no limit.
    pub memory_limit: u64,
    /// Received and sent bytes.
    pub network: [u64; 2],
    /// Read and written bytes.
    pub block: [u64; 2],
    /// Processes and threads.
    pub pids: u64,
}

impl StatsRow {
    /// From the last sample and the one before it.
    pub fn new(sample: &pb::StatsSample, before: Option<&pb::StatsSample>) -> Self {
        Self {
            id: sample.task_id.clone(),
            name: sample.task_name.clone(),
            cpu_percent: before.and_then(|before| cpu_percent(before, sample)),
            memory: sample.memory_bytes,
            memory_limit: sample.memory_limit,
            network: [sample.net_rx_bytes, sample.net_tx_bytes],
            block: [sample.block_read_bytes, sample.block_write_bytes],
            pids: sample.pids,
        }
    }
}

/// Share of one cpu that was used between two samples.
fn cpu_percent(before: &pb::StatsSample, sample: &pb::StatsSample) -> Option<f64> {
    let time = sample.at.checked_sub(before.at).filter(|time| *time > 0)?;
    let used = sample.cpu_nanos.saturating_sub(before.cpu_nanos);
    Some((used as f64 / time as f64 * 10_000.0).round() / 100.0)
}

impl Row for StatsRow {
    const HEADS: &'static [&'static str] =
        &["TASK ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"];

    fn cells(&self, no_trunc: bool) -> Vec<String> {
        let limit = if self.memory_limit == 0 { "-".to_owned() } else { binary_size(self.memory_limit) };
        let share = match self.memory_limit {
            0 => "--".to_owned(),
            limit => format!("{:.2}%", self.memory as f64 * 100.0 / limit as f64),
        };
        let pair = |[first, second]: [u64; 2]| format!("{} / {}", size(first), size(second));
        vec![
            short_id(&self.id, no_trunc),
            self.name.clone(),
            self.cpu_percent.map_or_else(|| "--".to_owned(), |percent| format!("{percent:.2}%")),
            format!("{} / {limit}", binary_size(self.memory)),
            share,
            pair(self.network),
            pair(self.block),
            self.pids.to_string(),
        ]
    }

    fn key(&self, no_trunc: bool) -> String {
        short_id(&self.id, no_trunc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_the_share_between_two_samples() {
        let before = pb::StatsSample { at: 0, cpu_nanos: 1_000, ..Default::default() };
        let sample = pb::StatsSample { at: 1_000_000_000, cpu_nanos: 500_001_000, ..Default::default() };
        assert_eq!(cpu_percent(&before, &sample), Some(50.0));
        assert_eq!(cpu_percent(&sample, &before), None);
        let row = StatsRow::new(&sample, None);
        assert_eq!(row.cells(false)[2], "--");
    }
}
