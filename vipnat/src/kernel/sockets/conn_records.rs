//! Reads the connection records of sockets in all network namespaces.

use std::{io::Read as _, os::fd::AsFd as _, path::Path};

use aya::{Btf, Ebpf, EbpfLoader, programs::Iter};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE;
use vipnat_common::abi::SocketRecord;

use super::sock_offsets;
use crate::kernel::{
    bpf_syscall::iterate,
    byte_map::ByteMap,
    error::{Attempt as _, Result},
    pins,
};

/// The object with the iterator. Its only map holds the iterator's constants.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/list-conns"));
const PROGRAM: &str = "list_conns";

/// The records of the sockets of all apps of a state directory, with the sockets' addresses.
///
/// An iterator reads only sockets that have a record (kernel 5.9). `sock_diag` lists the sockets of one
/// network namespace at a time. It walks through the tables of all namespaces each time, and returns no
/// socket storage of UDP sockets (`inet_diag_dump_icsk`, `inet_sk_diag_fill` in net/ipv4/inet_diag.c).
#[derive(Debug)]
pub(crate) struct ConnRecords {
    conns: ByteMap<4, 24>,
    object: Ebpf,
}

impl ConnRecords {
    /// Loads the iterator for a state directory's map.
    pub(crate) fn open(state: &Path) -> Result<Self> {
        let pin = pins::map_pin(state, "conns");
        let conns = ByteMap::open(&pin, BPF_MAP_TYPE_SK_STORAGE);
        let conns = conns.attempt(|| format!("open {}", pin.display()))?;
        let reading = || "read the kernel's types".to_owned();
        let offsets = sock_offsets::socket_offsets().attempt(reading)?.to_bytes();
        let loading = || format!("load the program {PROGRAM}");
        let mut loader = EbpfLoader::new();
        let mut object =
            loader.override_global("OFFSETS", &offsets, true).load(OBJECT).attempt(loading)?;
        let types = Btf::from_sys_fs().attempt(reading)?;
        let loaded = iterator(&mut object).load("bpf_sk_storage_map", &types);
        loaded.attempt(loading)?;
        Ok(Self { conns, object })
    }

    /// Reads the records of all sockets.
    pub(crate) fn read(&mut self) -> Result<Vec<SocketRecord>> {
        let reading = || "read the records of sockets".to_owned();
        let program = iterator(&mut self.object).fd().attempt(reading)?;
        let mut bytes = Vec::new();
        let mut file = iterate(program.as_fd(), self.conns.fd()).attempt(reading)?;
        file.read_to_end(&mut bytes).attempt(reading)?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| SocketRecord::from_bytes(*bytes)).collect())
    }
}

fn iterator(object: &mut Ebpf) -> &mut Iter {
    object
        .program_mut(PROGRAM)
        .and_then(|program| program.try_into().ok())
        .unwrap_or_else(|| panic!("the object has an iterator {PROGRAM}"))
}
