//! One run of the load, and its row in the printed table.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::connector::Connector;
use crate::load::{self, Sample, Target};
use crate::process::processor_time;
use crate::setting::{KEY, STORE};

/// The number of connections, below `server.max_connections`.
const CONNECTIONS: usize = 600;

/// The maximum latency of a useful answer.
const IN_TIME: Duration = Duration::from_millis(1_500);

/// One run.
pub(crate) struct Run {
    samples: Vec<Sample>,
    time: Duration,
    /// Processor use of the connector and of this process, in cores.
    cores: [f64; 2],
}

impl Run {
    pub(crate) const HEADINGS: &str = "                offered   200/s in time    200: 50 %      99 %      max    429: 50 %      99 %      max   cores: it, load   statuses";

    pub(crate) fn measure(connector: &Connector, rate: f64, time: Duration) -> Self {
        let target = Target {
            address: connector.api,
            connections: CONNECTIONS,
            headers: String::new(),
            key: KEY.to_owned(),
            store: STORE.to_owned(),
        };
        let processes = [connector.process(), std::process::id()];
        let before = processes.map(processor_time);
        let samples = load::run(&target, rate, |passed| passed >= time);
        let after = processes.map(processor_time);
        let cores = [0, 1].map(|index| (after[index] - before[index]).as_secs_f64() / time.as_secs_f64());
        Self { samples, time, cores }
    }

    /// The requests that were due before this time, and those after it.
    pub(crate) fn split_at(&self, at: Duration) -> (Self, Self) {
        let (early, late) = self.samples.iter().partition(|sample| sample.due < at);
        let cores = self.cores;
        (Self { samples: early, time: at, cores }, Self { samples: late, time: self.time - at, cores })
    }

    /// Accepted scans a second that were answered in time.
    pub(crate) fn goodput(&self) -> f64 {
        let good = self.samples.iter().filter(|sample| sample.status == 200 && sample.took <= IN_TIME);
        good.count() as f64 / self.time.as_secs_f64()
    }

    /// Whether all answers have one of these statuses.
    pub(crate) fn has_only(&self, statuses: [u16; 2]) -> bool {
        self.samples.iter().all(|sample| statuses.contains(&sample.status))
    }

    pub(crate) fn statuses(&self) -> String {
        let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
        for sample in &self.samples {
            *counts.entry(sample.status).or_default() += 1;
        }
        let named = counts.into_iter().map(|(status, count)| match status {
            0 => format!("{count} broken off"),
            1 => format!("{count} unsent"),
            _ => format!("{count} x {status}"),
        });
        named.collect::<Vec<_>>().join(", ")
    }

    /// A percentile of the latency of answers with this status; zero if there are none.
    pub(crate) fn percentile(&self, status: u16, share: f64) -> Duration {
        let mut took: Vec<_> =
            self.samples.iter().filter(|sample| sample.status == status).map(|sample| sample.took).collect();
        took.sort_unstable();
        let last = took.len().saturating_sub(1);
        took.get((last as f64 * share).ceil() as usize).copied().unwrap_or_default()
    }

    pub(crate) fn row(&self, name: &str) -> String {
        let offered = self.samples.len() as f64 / self.time.as_secs_f64();
        let [accepted, refused] = [200, 429].map(|status| {
            let [half, most, all] =
                [0.5, 0.99, 1.0].map(|share| format!("{:>7.1}ms", self.percentile(status, share).as_secs_f64() * 1e3));
            format!("{half} {most} {all}")
        });
        let [connector, load] = self.cores;
        format!(
            "{name:<12} {offered:>10.0} {:>15.0}    {accepted}    {refused}    {connector:>8.2} {load:>6.2}   {}",
            self.goodput(),
            self.statuses()
        )
    }
}

/// The number of processors and the load average.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().unwrap();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    format!("{cores} cores, load average {}", load.split(' ').next().unwrap())
}
