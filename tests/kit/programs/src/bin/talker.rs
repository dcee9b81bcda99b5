//! A server that answers with its name, or as the request asks. It serves TCP and UDP, at any number of
//! addresses, until standard input ends.
//!
//! | request | answer |
//! | --- | --- |
//! | `source` | its name, and the address of the client |
//! | `later MS` | its name, after MS milliseconds |
//! | `times N` | its name N times, numbered |
//! | `elsewhere` | its name, on UDP from another port |
//! | `quiet` | nothing |
//! | `close`, `reset` | nothing; on TCP it closes, or resets |
//! | the end (TCP) | its name, and the number of bytes; then it closes |
//! | more than 64 bytes | its name, and the number of bytes; on TCP nothing |
//! | anything else | its name |

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use nix::errno::Errno;

fn main() {
    // Lets clients send data with the SYN. Bit 0 is for the client, bit 1 for the server.
    fs::write("/proc/sys/net/ipv4/tcp_fastopen", "3").expect("write net.ipv4.tcp_fastopen");
    for argument in env::args().skip(1) {
        let (name, address) = argument.split_once('=').expect("NAME=ADDRESS:PORT");
        let name: &'static str = name.to_owned().leak();
        let tcp = TcpListener::bind(address)
            .unwrap_or_else(|error| panic!("talker {name}: bind {address}/tcp: {error}"));
        accept_fastopen(&tcp);
        let udp = UdpSocket::bind(address)
            .unwrap_or_else(|error| panic!("talker {name}: bind {address}/udp: {error}"));
        thread::spawn(move || serve_tcp(name, &tcp));
        thread::spawn(move || serve_udp(name, &udp));
    }
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new()).expect("read standard input");
}

fn serve_tcp(name: &'static str, listener: &TcpListener) {
    // An error means that the client is gone already.
    for stream in listener.incoming().flatten() {
        thread::spawn(move || talk(name, stream));
    }
}

fn talk(name: &str, mut stream: TcpStream) -> io::Result<()> {
    let client = stream.peer_addr()?;
    let mut total = 0;
    loop {
        let mut buffer = [0; 65536];
        let size = stream.read(&mut buffer)?;
        total += size;
        let request = &buffer[..size];
        match request {
            b"" => return stream.write_all(format!("{name} got {total} bytes").as_bytes()),
            b"close" => return Ok(()),
            b"reset" => return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
            // A large message arrives in a random number of parts, so this only counts its bytes.
            _ if is_large(request) => continue,
            _ => {}
        }
        for answer in answers(name, request, client) {
            stream.write_all(answer.as_bytes())?;
        }
    }
}

fn serve_udp(name: &'static str, socket: &UdpSocket) {
    loop {
        let mut buffer = [0; 65536];
        // An error is an ICMP message about an earlier answer.
        let Ok((size, client)) = socket.recv_from(&mut buffer) else { continue };
        let request = buffer[..size].to_vec();
        let from = if request == b"elsewhere" {
            let ip = socket.local_addr().expect("getsockname").ip();
            UdpSocket::bind((ip, 0)).expect("bind another port")
        } else {
            socket.try_clone().expect("dup")
        };
        let is_slow = request.starts_with(b"later ");
        let answer = move || {
            for answer in answers(name, &request, client) {
                let _ = from.send_to(answer.as_bytes(), client);
            }
        };
        if is_slow {
            thread::spawn(answer);
        } else {
            // Answers in the order of the requests.
            answer();
        }
    }
}

fn is_large(request: &[u8]) -> bool {
    request.len() > 64
}

fn answers(name: &str, request: &[u8], client: SocketAddr) -> Vec<String> {
    let text = String::from_utf8_lossy(request);
    let words: Vec<_> = text.split(' ').collect();
    let number = |word: &str| word.parse::<u64>().expect("a number");
    match words[..] {
        ["quiet" | "close" | "reset"] => Vec::new(),
        ["source"] => vec![format!("{name} sees {client}")],
        ["times", n] => (1..=number(n)).map(|n| format!("{name} {n}")).collect(),
        ["later", milliseconds] => {
            thread::sleep(Duration::from_millis(number(milliseconds)));
            vec![format!("{name} late")]
        }
        _ if is_large(request) => vec![format!("{name} got {} bytes", request.len())],
        _ => vec![name.to_owned()],
    }
}

fn accept_fastopen(listener: &TcpListener) {
    let queue: libc::c_int = 64;
    // SAFETY: the pointer and the size are those of `queue`.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN,
            (&raw const queue).cast(),
            size_of_val(&queue) as libc::socklen_t,
        )
    };
    Errno::result(result).expect("set TCP_FASTOPEN");
}
