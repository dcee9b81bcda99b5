//! The sockets that hooks have connected: found by the notes in them, counted, ended.
//!
//! A socket is believed to be connected through a VIP if its note says so and names its present
//! peer, as `getpeername` does it. Everything else is left alone: sockets without a note, those that
//! have moved on, and UDP sockets that are not connected.

mod diag;
mod netns;
mod notes;

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
};

use vipnat_common::{Note, flow::shown_peer, layout::SocketNote};

use self::{
    diag::{Diag, Kind, SocketId},
    netns::Closed,
    notes::Notes,
};
use super::error::{Attempt as _, Result};

/// States of include/net/tcp_states.h. What waits in TIME_WAIT is no socket any more.
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

/// A search for the sockets that one state directory's hooks have connected.
#[derive(Debug)]
pub(super) struct Search(Notes);

/// Sockets of an app by cookie: what is noted in each, and which of the sorts that are looked for it is.
pub(super) type Noted = HashMap<u64, (Note, usize)>;

impl Search {
    /// In a state directory.
    pub(super) fn new(state: &Path) -> Result<Self> {
        Notes::open(state).map(Self)
    }

    /// Reads the notes anew, for each of so many apps. `which` tells whose note it is, and of which sort,
    /// if it is one that is looked for.
    pub(super) fn noted(
        &mut self,
        apps: usize,
        which: impl Fn(&Note) -> Option<(usize, usize)>,
    ) -> Result<Vec<Noted>> {
        let mut noted = vec![Noted::new(); apps];
        for SocketNote { cookie, note } in self.0.read()? {
            if let Some((app, sort)) = which(&note) {
                noted[app].insert(cookie, (note, sort));
            }
        }
        Ok(noted)
    }
}

/// The sockets among some noted ones that are connected to what is noted, in the network namespaces
/// of the processes of some cgroups and of those below them.
#[derive(Debug, Default)]
pub(super) struct Found {
    sockets: Vec<Socket>,
    namespaces: Vec<Diag>,
    closed: Vec<Closed>,
}

#[derive(Debug)]
struct Socket {
    /// Index of its namespace.
    namespace: usize,
    kind: Kind,
    id: SocketId,
    sort: usize,
}

impl Found {
    /// Looks for them. No namespace is entered if there is nothing to look for.
    pub(super) fn of(noted: &Noted, cgroups: &BTreeSet<PathBuf>) -> Result<Self> {
        if noted.is_empty() {
            return Ok(Self::default());
        }
        let (namespaces, closed) = netns::enter(cgroups);
        let mut sockets = Vec::new();
        for (namespace, diag) in namespaces.iter().enumerate() {
            for kind in KINDS {
                let ids = diag.list(kind).map_err(without_diag);
                let ids = ids.attempt(|| "list the sockets of a network namespace".to_owned())?;
                sockets.extend(ids.into_iter().filter_map(|id| {
                    let (note, sort) = noted.get(&id.cookie())?;
                    let (ip, port) = id.peer(kind)?;
                    shown_peer(note, ip, port)?;
                    Some(Socket { namespace, kind, id, sort: *sort })
                }));
            }
        }
        Ok(Self { sockets, namespaces, closed })
    }

    /// What could not be searched, and why.
    pub(super) fn closed(&self) -> impl Iterator<Item = String> {
        self.closed.iter().map(|Closed { pid, missing, error }| {
            format!(
                "the network namespace of process {pid} is closed ({error}): vipnat lacks {missing}"
            )
        })
    }

    /// The sort of each.
    pub(super) fn sorts(&self) -> impl Iterator<Item = usize> {
        self.sockets.iter().map(|socket| socket.sort)
    }

    /// Ends them. Returns the sort of each that was still there.
    pub(super) fn end(&self) -> Result<Vec<usize>> {
        let mut ended = Vec::new();
        for Socket { namespace, kind, id, sort } in &self.sockets {
            let there = self.namespaces[*namespace].end(*kind, *id).map_err(without_destroy);
            if there.attempt(|| "end a connection".to_owned())? {
                ended.push(*sort);
            }
        }
        Ok(ended)
    }
}

/// What the kernel says if it has no module for it, and none can be loaded.
fn without_diag(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel can't tell; it needs the modules tcp_diag and udp_diag",
        ),
        _ => error,
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
