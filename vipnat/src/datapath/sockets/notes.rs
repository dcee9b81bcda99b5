//! What is noted in sockets, whichever network namespace they are in.

use std::{io::Read as _, os::fd::AsFd as _, path::Path};

use aya::{Btf, Ebpf, programs::Iter};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE;
use vipnat_common::layout::SocketNote;

use super::super::{
    error::{Attempt as _, Result},
    object,
    sys::{ByteMap, iterate},
};

/// The object with the program below, and no map.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/list-flows"));
const PROGRAM: &str = "list_flows";

/// The notes in the sockets of all apps of a state directory.
///
/// `sock_diag` can show what a TCP socket holds for a map, but not what a UDP socket does
/// (`inet_sk_diag_fill` in net/ipv4/inet_diag.c), so an iterator reads it (kernel 5.9).
#[derive(Debug)]
pub(super) struct Notes {
    flows: ByteMap<4, 24>,
    object: Ebpf,
}

impl Notes {
    /// Loads the iterator for a state directory's map.
    pub(super) fn open(state: &Path) -> Result<Self> {
        let pin = object::map_pin(state, "flows");
        let flows = ByteMap::open(&pin, BPF_MAP_TYPE_SK_STORAGE);
        let flows = flows.attempt(|| format!("open {}", pin.display()))?;
        let mut object = Ebpf::load(OBJECT).attempt(|| format!("load the program {PROGRAM}"))?;
        let types = Btf::from_sys_fs().attempt(|| "read the kernel's types".to_owned())?;
        let loaded = iterator(&mut object).load("bpf_sk_storage_map", &types);
        loaded.attempt(|| format!("load the program {PROGRAM}"))?;
        Ok(Self { flows, object })
    }

    /// Reads them.
    pub(super) fn read(&mut self) -> Result<Vec<SocketNote>> {
        let reading = || "read the notes in sockets".to_owned();
        let program = iterator(&mut self.object).fd().attempt(reading)?;
        let mut bytes = Vec::new();
        let mut file = iterate(program.as_fd(), self.flows.fd()).attempt(reading)?;
        file.read_to_end(&mut bytes).attempt(reading)?;
        Ok(bytes.as_chunks().0.iter().map(SocketNote::from_bytes).collect())
    }
}

fn iterator(object: &mut Ebpf) -> &mut Iter {
    object
        .program_mut(PROGRAM)
        .and_then(|program| program.try_into().ok())
        .unwrap_or_else(|| panic!("the object has an iterator {PROGRAM}"))
}
