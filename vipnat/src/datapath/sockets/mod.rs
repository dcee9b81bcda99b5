//! The sockets that hooks have connected: found by the notes in them, counted, ended.
//!
//! A socket is believed to be connected through a VIP if its note says so and names its present
//! peer, as `getpeername` does it. Everything else is left alone: sockets without a note, those that
//! have moved on, and UDP sockets that are not connected.

mod diag;
mod netns;

use std::{
    io,
    path::{Path, PathBuf},
};

use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE;
use vipnat_common::{Flow, flow::shown_peer};

use self::{
    diag::{Diag, Kind, SocketId},
    netns::Closed,
};
use super::{
    error::{Attempt as _, Result},
    object,
    sys::ByteMap,
};

/// States of include/net/tcp_states.h. A connection that waits in TIME_WAIT has no socket any more.
const ESTABLISHED: u32 = 1 << 1;
const SYN_SENT: u32 = 1 << 2;
const SYN_RECV: u32 = 1 << 3;
const FIN_WAIT: u32 = 1 << 4 | 1 << 5;
const CLOSING: u32 = 1 << 8 | 1 << 9 | 1 << 11;

/// The sockets that can be connected through a VIP.
const KINDS: [Kind; 4] = {
    const TCP: u32 = ESTABLISHED | SYN_SENT | SYN_RECV | FIN_WAIT | CLOSING;
    let (tcp, udp) = (libc::IPPROTO_TCP, libc::IPPROTO_UDP);
    [
        Kind { family: libc::AF_INET, protocol: tcp, states: TCP },
        Kind { family: libc::AF_INET6, protocol: tcp, states: TCP },
        // Which UDP uses for "connected".
        Kind { family: libc::AF_INET, protocol: udp, states: ESTABLISHED },
        Kind { family: libc::AF_INET6, protocol: udp, states: ESTABLISHED },
    ]
};

/// A search for sockets in the network namespaces of some cgroups.
#[derive(Debug)]
pub(super) struct Search {
    flows: ByteMap<4, 32>,
    namespaces: Vec<Diag>,
    closed: Vec<Closed>,
}

/// A socket that was found.
struct Found<'a> {
    namespace: &'a Diag,
    kind: Kind,
    id: SocketId,
    /// What [`Search::find`] was told that it is.
    what: usize,
}

impl Search {
    /// In the namespaces of all processes of these cgroups, and of those below them. `state` is the
    /// state directory.
    pub(super) fn of(state: &Path, cgroups: &[PathBuf]) -> Result<Self> {
        let pin = object::map_pin(state, "flows");
        let flows = ByteMap::open(&pin, BPF_MAP_TYPE_SK_STORAGE);
        let flows = flows.attempt(|| format!("open {}", pin.display()))?;
        let (namespaces, closed) = netns::enter(cgroups);
        Ok(Self { flows, namespaces, closed })
    }

    /// What could not be searched, and why.
    pub(super) fn closed(&self) -> impl Iterator<Item = String> {
        self.closed.iter().map(|Closed { pid, missing, error }| {
            format!("the network namespace of process {pid} is closed to it ({error}): it lacks {missing}")
        })
    }

    /// How many sockets there are of each sort that `which` tells apart, 0 to `sorts`.
    pub(super) fn count(
        &self,
        sorts: usize,
        which: impl Fn(&Flow) -> Option<usize>,
    ) -> Result<Vec<usize>> {
        let mut counts = vec![0; sorts];
        self.find(which)?.iter().for_each(|found| counts[found.what] += 1);
        Ok(counts)
    }

    /// Ends them. Returns how many were there.
    pub(super) fn end(
        &self,
        sorts: usize,
        which: impl Fn(&Flow) -> Option<usize>,
    ) -> Result<Vec<usize>> {
        let mut counts = vec![0; sorts];
        for Found { namespace, kind, id, what } in self.find(which)? {
            let ended = namespace.end(kind, id).map_err(without_destroy);
            counts[what] += usize::from(ended.attempt(|| "end a connection".to_owned())?);
        }
        Ok(counts)
    }

    fn find(&self, which: impl Fn(&Flow) -> Option<usize>) -> Result<Vec<Found<'_>>> {
        let mut all = Vec::new();
        for namespace in &self.namespaces {
            for kind in KINDS {
                let listed = namespace.with_storage(kind, self.flows.fd(), |id, note| {
                    let flow = Flow::from_bytes(note);
                    let there = id.peer(kind).and_then(|(ip, port)| shown_peer(&flow, ip, port));
                    if let (Some(_), Some(what)) = (there, which(&flow)) {
                        all.push(Found { namespace, kind, id, what });
                    }
                });
                listed.attempt(|| "list the sockets of a network namespace".to_owned())?;
            }
        }
        Ok(all)
    }
}

/// What the kernel says if it was built without it (`inet_diag_cmd_exact` in net/ipv4/inet_diag.c).
fn without_destroy(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel can't end sockets; it needs CONFIG_INET_DIAG_DESTROY=y",
        ),
        _ => error,
    }
}
