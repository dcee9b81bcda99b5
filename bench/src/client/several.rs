//! Measures connects from several threads at once, and holds many sockets.

use std::{
    io,
    os::fd::OwnedFd,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use super::{
    operations::addresses,
    sockets::{connect, udp},
};
use crate::{
    pin,
    protocol::{Destination, Position, Sample, port},
    stats::quantile,
};

/// Connects between two readings of the clock. The time of a typical batch counts.
const BATCH: usize = 256;

/// Reconnects UDP sockets on the first `count` CPUs, each with its own socket, to the first VIP or to all.
///
/// The mean is the average time between two connects, all CPUs taken together.
pub(crate) fn threads(
    count: usize,
    destination: Destination,
    time: Duration,
) -> io::Result<Sample> {
    let start = Barrier::new(count);
    let work = |cpu: usize| -> io::Result<f64> {
        pin(cpu)?;
        let to = addresses(destination, Position::Random, port::UDP_SINK);
        let socket = udp()?;
        connect(&socket, &to[0])?;
        start.wait();
        let begun = Instant::now();
        let mut times = Vec::new();
        while begun.elapsed() < time {
            let batch = Instant::now();
            for turn in 0..BATCH {
                connect(&socket, &to[(times.len() * BATCH + turn) % to.len()])?;
            }
            times.push(batch.elapsed().as_nanos() as f64);
        }
        // The median ignores the few batches in which another task had the CPU.
        Ok(BATCH as f64 / quantile(&mut times, 0.5))
    };
    let rates: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|cpu| scope.spawn(move || work(cpu))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread panicked")).collect()
    });
    let rate: f64 = rates.into_iter().sum::<io::Result<f64>>()?;
    Ok(Sample { count, p50: 1.0 / rate, p99: 1.0 / rate, mean: 1.0 / rate })
}

/// Connected UDP sockets that stay open.
#[derive(Default)]
pub(crate) struct Held {
    _sockets: Vec<OwnedFd>,
}

impl Held {
    pub(crate) fn connect(count: usize, destination: Destination) -> io::Result<Self> {
        let to = addresses(destination, Position::Random, port::UDP_SINK);
        let sockets = (0..count).map(|turn| {
            let socket = udp()?;
            connect(&socket, &to[turn % to.len()])?;
            Ok(socket)
        });
        Ok(Self { _sockets: sockets.collect::<io::Result<_>>()? })
    }
}
