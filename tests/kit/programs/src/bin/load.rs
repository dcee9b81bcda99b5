//! Connects without pause, each time with a new socket, until standard input ends. Then it prints a
//! [`Tally`].
//!
//! Each server answers with its name. An answer of a wrong server counts as a crossing.

use std::{
    io::{self, Read as _},
    net::{SocketAddrV4, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use clap::Parser;
use socket2::SockRef;
use vipnat_testkit::{Tally, patient};

/// Time limit of an answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Parser)]
struct Args {
    /// The prefix of the names of the right servers.
    #[arg(long)]
    expect: String,
    /// How many threads connect by TCP.
    #[arg(long, default_value_t = 0)]
    tcp: usize,
    /// How many threads connect UDP sockets.
    #[arg(long, default_value_t = 0)]
    udp: usize,
    /// How many threads send without connecting.
    #[arg(long, default_value_t = 0)]
    sendto: usize,
    /// The addresses to connect to, in turn.
    #[arg(required = true)]
    destinations: Vec<SocketAddrV4>,
}

type Ask = fn(SocketAddrV4) -> io::Result<String>;

fn main() {
    let args = Args::parse();
    let stopped = AtomicBool::new(false);
    let kinds: [(usize, Ask); 3] = [(args.tcp, tcp), (args.udp, udp), (args.sendto, sendto)];
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let threads: Vec<_> = kinds
            .iter()
            .flat_map(|(count, ask)| (0..*count).map(move |number| (number, ask)))
            .map(|(number, ask)| {
                scope.spawn({
                    let (args, stopped) = (&args, &stopped);
                    move || connect(args, *ask, number, stopped)
                })
            })
            .collect();
        let _ = io::stdin().read_to_end(&mut Vec::new());
        stopped.store(true, Ordering::Relaxed);
        for thread in threads {
            tally.add(thread.join().expect("a thread"));
        }
    });
    println!("{}", serde_json::to_string(&tally).expect("a tally is JSON"));
}

fn connect(args: &Args, ask: Ask, offset: usize, stopped: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut counts = vec![0_u64; args.destinations.len()];
    for number in (0..counts.len()).cycle().skip(offset) {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        let destination = args.destinations[number];
        let wrong = match ask(destination) {
            Ok(name) if name.starts_with(&args.expect) => {
                counts[number] += 1;
                continue;
            }
            Ok(name) => {
                counts[number] += 1;
                tally.crossed += 1;
                format!("{destination}: answered by {name:?}")
            }
            Err(error) => {
                tally.failed += 1;
                format!("{destination}: {error}")
            }
        };
        if tally.examples.len() < 5 {
            tally.examples.push(wrong);
        }
    }
    let answered = args.destinations.iter().map(ToString::to_string).zip(counts);
    for (destination, count) in answered {
        *tally.answered.entry(destination).or_default() += count;
    }
    tally
}

fn tcp(to: SocketAddrV4) -> io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(patient(PATIENCE)))?;
    // Closes with a reset. Otherwise all ports would soon be in TIME_WAIT.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    if stream.peer_addr()? != to.into() {
        return Err(io::Error::other(format!("the peer is {}", stream.peer_addr()?)));
    }
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).trim_end().to_owned())
}

fn udp(to: SocketAddrV4) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(patient(PATIENCE)))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

fn sendto(to: SocketAddrV4) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(patient(PATIENCE)))?;
    socket.send_to(b"?", to)?;
    let mut answer = [0; 64];
    let (length, from) = socket.recv_from(&mut answer)?;
    if from != to.into() {
        return Err(io::Error::other(format!("the answer is from {from}")));
    }
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
