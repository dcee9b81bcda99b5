//! Reads maps as a whole, or one element.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    ptr,
};

use vipnat_common::abi::Scope;

use crate::bpf::{Attr, Info};

/// Commands of bpf(2).
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// The app of each cgroup that has storage, by id.
///
/// Cgroup storage has no batch read, so this reads one entry at a time.
///
/// The kernel frees the storage of a removed cgroup at any time. It gives no next key after one that is gone,
/// as after the last one (`cgroup_storage_get_next_key` in kernel/bpf/local_storage.c), so this begins again
/// if the last key is gone.
pub(crate) fn scopes(map: &OwnedFd) -> BTreeMap<u64, Scope> {
    let mut scopes = BTreeMap::new();
    let mut key: Option<[u8; 8]> = None;
    loop {
        let mut next = [0_u8; 8];
        let mut attr = Attr::default();
        attr.u32(0, map.as_raw_fd() as u32).u64(16, next.as_mut_ptr() as u64);
        attr.u64(8, key.as_ref().map_or(0, |key| key.as_ptr() as u64));
        if attr.call(BPF_MAP_GET_NEXT_KEY).is_err() {
            if key.is_none_or(|last| lookup::<8>(map, &last).is_some()) {
                return scopes;
            }
            scopes.clear();
            key = None;
            continue;
        }
        // The entry may be deleted meanwhile.
        if let Some(value) = lookup::<8>(map, &next) {
            scopes.insert(u64::from_ne_bytes(next), Scope::from_bytes(value));
        }
        key = Some(next);
    }
}

/// An element.
pub(crate) fn lookup<const V: usize>(map: &OwnedFd, key: &[u8]) -> Option<[u8; V]> {
    let mut value = [0; V];
    let mut attr = Attr::default();
    attr.u32(0, map.as_raw_fd() as u32).u64(8, key.as_ptr() as u64);
    attr.u64(16, value.as_mut_ptr() as u64);
    attr.call(BPF_MAP_LOOKUP_ELEM).ok().map(|_| value)
}

/// The first elements of an array or a hash, at most `count`.
pub(crate) fn batch<const K: usize, const V: usize>(
    map: &OwnedFd,
    count: usize,
) -> Vec<([u8; K], [u8; V])> {
    let (mut keys, mut values) = (vec![[0; K]; count], vec![[0; V]; count]);
    let mut position = [0_u8; 16];
    let mut attr = Attr::default();
    attr.u64(8, position.as_mut_ptr() as u64);
    attr.u64(16, keys.as_mut_ptr() as u64).u64(24, values.as_mut_ptr() as u64);
    attr.u32(32, count as u32).u32(36, map.as_raw_fd() as u32);
    match attr.call(BPF_MAP_LOOKUP_BATCH) {
        Ok(_) => {}
        // The map has no more elements.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        Err(error) => panic!("read a map: {error}"),
    }
    keys.truncate(attr.read(32) as usize);
    keys.into_iter().zip(values).collect()
}

/// All elements of an array that supports mmap.
pub(crate) fn mapped<const V: usize>(pin: &Path) -> Vec<[u8; V]> {
    let info = Info::of(pin);
    let (count, map) = (info.u32(16) as usize, &info.object);
    let mut values = vec![[0; V]; count];
    let length = size_of_val(values.as_slice());
    // SAFETY: this is a new mapping of that length, unmapped below. Any bytes in it are valid.
    unsafe {
        let (access, fd) = (libc::PROT_READ, map.as_raw_fd());
        let array = libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, fd, 0);
        assert_ne!(array, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        ptr::copy_nonoverlapping(array.cast(), values.as_mut_ptr(), count);
        libc::munmap(array, length);
    }
    values
}
