//! The few `bpf(2)` commands that aya 0.14 does not offer.

use std::{
    ffi::CString,
    io,
    mem::{size_of, zeroed},
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info, bpf_map_type};

/// What a link says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct CgroupLink {
    /// The cgroup's id, which is its inode number; 0 once the cgroup is gone.
    pub(super) cgroup: u64,
}

/// Reads a pinned cgroup link.
pub(super) fn cgroup_link(pin: &Path) -> io::Result<CgroupLink> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    let link = bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attr)?;

    // SAFETY: both are plain data, for which zeroes are valid.
    let (mut info, mut attr): (bpf_link_info, bpf_attr) = unsafe { (zeroed(), zeroed()) };
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = &raw mut info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: the kernel filled in this part of the union if it is a cgroup link; it left zeroes
    // if the object is a smaller one, and any bits make a u64.
    Ok(CgroupLink { cgroup: unsafe { info.__bindgen_anon_1.cgroup.cgroup_id } })
}

/// Reads one element whose key and value are plain bytes; `None` if there is none.
pub(super) fn lookup<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    key: [u8; K],
) -> io::Result<Option<[u8; V]>> {
    let mut value = [0; V];
    let mut attr = element(map, &key, &mut value);
    match bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes one element. Returns whether it could: `false` means that it does not exist and the
/// kind of map cannot make it.
pub(super) fn update<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    key: [u8; K],
    mut value: [u8; V],
) -> io::Result<bool> {
    let mut attr = element(map, &key, &mut value);
    match bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn element<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    key: &[u8; K],
    value: &mut [u8; V],
) -> bpf_attr {
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = key.as_ptr() as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    attr
}

/// Gives every element of a hash or array map of exactly these key and value sizes to `each`
/// (kernel 5.6).
pub(super) fn dump<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    mut each: impl FnMut([u8; K], [u8; V]),
) -> io::Result<()> {
    // Where to go on. A hash map keeps a bucket number in it, an array its last key.
    let mut position = [0u8; 16];
    let mut started = false;
    let mut chunk = 4096;
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    loop {
        keys.resize(chunk, [0; K]);
        values.resize(chunk, [0; V]);
        let previous = position;
        // SAFETY: bpf_attr is plain data, for which zeroes are valid.
        let mut attr: bpf_attr = unsafe { zeroed() };
        attr.batch.map_fd = map.as_raw_fd() as u32;
        attr.batch.in_batch = if started { previous.as_ptr() as u64 } else { 0 };
        attr.batch.out_batch = position.as_mut_ptr() as u64;
        attr.batch.keys = keys.as_mut_ptr() as u64;
        attr.batch.values = values.as_mut_ptr() as u64;
        attr.batch.count = chunk as u32;
        let done = match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
            Ok(_) => false,
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => true,
                // One bucket holds more than fits.
                Some(libc::ENOSPC) => {
                    position = previous;
                    chunk *= 2;
                    continue;
                }
                _ => return Err(error),
            },
        };
        // SAFETY: the kernel wrote how many elements it returned into this field.
        let count = unsafe { attr.batch.count } as usize;
        for (key, value) in keys.iter().zip(&values).take(count) {
            each(*key, *value);
        }
        if done {
            return Ok(());
        }
        started = true;
    }
}

/// Waits until every BPF program that runs now has ended.
///
/// Replacing an element of a map in map waits for an RCU grace period before it returns
/// (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c), and programs run inside RCU read sections.
/// membarrier(2) would do as well, but not with `nohz_full`.
pub(super) fn wait_for_programs() -> io::Result<()> {
    let inner = create_array(bpf_map_type::BPF_MAP_TYPE_ARRAY, None)?;
    let outer = create_array(bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS, Some(&inner))?;
    let mut value = inner.as_raw_fd().to_ne_bytes();
    let mut attr = element(
        // SAFETY: `outer` outlives the call.
        unsafe { BorrowedFd::borrow_raw(outer.as_raw_fd()) },
        &[0; 4],
        &mut value,
    );
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

fn create_array(kind: bpf_map_type, inner: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    // SAFETY: all fields of this part of the union are plain integers.
    let create = unsafe { &mut attr.__bindgen_anon_1 };
    create.map_type = kind as u32;
    create.key_size = 4;
    create.value_size = 4;
    create.max_entries = 1;
    create.inner_map_fd = inner.map_or(0, |fd| fd.as_raw_fd() as u32);
    bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr)
}

fn bpf(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the attribute is valid for the command, and what it points to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, cmd as libc::c_int, attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn bpf_fd(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(cmd, attr)?;
    // SAFETY: these commands return a new file descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
