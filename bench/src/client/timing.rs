//! Times single operations.

use std::{
    fs,
    hint::black_box,
    io,
    time::{Duration, Instant},
};

use crate::{protocol::Sample, stats::quantile};

/// The fewest times of a sample. With fewer, a percentile has no meaning.
const LEAST: usize = 50;
/// Number of times with cold caches, where each is slow.
const LEAST_COLD: usize = 10;
/// The most times of a sample: its connections wait to be accepted, and must fit into the queue.
const MOST: usize = 20_000;

/// Times operations, one by one.
pub(crate) struct Timer {
    /// The time that reading the clock takes, in nanoseconds.
    clock: f64,
    /// Larger than the last cache.
    buffer: Vec<u8>,
    times: Vec<f64>,
}

impl Timer {
    pub(crate) fn new() -> Self {
        let mut clock: Vec<_> =
            (0..20_000).map(|_| Instant::now().elapsed().as_nanos() as f64).collect();
        Self {
            clock: quantile(&mut clock, 0.5),
            buffer: vec![1; last_cache() * 5 / 4],
            times: Vec::with_capacity(MOST),
        }
    }

    /// Repeats an operation for `time`. The operation returns its own duration.
    pub(crate) fn measure(
        &mut self,
        time: Duration,
        mut operation: impl FnMut(usize) -> io::Result<Duration>,
    ) -> io::Result<Sample> {
        self.times.clear();
        let begun = Instant::now();
        while self.times.len() < MOST && (begun.elapsed() < time || self.times.len() < LEAST) {
            let took = operation(self.times.len())?;
            self.times.push(took.as_nanos() as f64 - self.clock);
        }
        Ok(self.sample())
    }

    /// The same, with caches that hold no data of the operation.
    pub(crate) fn measure_cold(
        &mut self,
        mut operation: impl FnMut(usize) -> io::Result<Duration>,
    ) -> io::Result<Sample> {
        self.times.clear();
        for turn in 0..LEAST_COLD {
            black_box(
                self.buffer.iter().step_by(64).fold(0, |sum: u8, byte| sum.wrapping_add(*byte)),
            );
            let took = operation(turn)?;
            self.times.push(took.as_nanos() as f64 - self.clock);
        }
        Ok(self.sample())
    }

    fn sample(&mut self) -> Sample {
        let times = &mut self.times;
        let count = times.len();
        let mean = times.iter().sum::<f64>() / count as f64;
        Sample { count, p50: quantile(times, 0.5), p99: quantile(times, 0.99), mean }
    }
}

/// The size of the last cache, in bytes.
fn last_cache() -> usize {
    let size = |index| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        fs::read_to_string(path).ok()?.trim().strip_suffix('K')?.parse::<usize>().ok()
    };
    (0..5).filter_map(size).max().unwrap_or(32 << 10) << 10
}
