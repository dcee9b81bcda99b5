//! The `bpf(2)` commands that vipnat needs, and aya 0.14 does not offer.
//!
//! aya has no `BPF_LINK_UPDATE` for cgroup links, no iterator over one map, and no cgroup and hook of a
//! link. For pinned objects, `map_info` and `program_id` keep the kernel's error number, which decides
//! what a missing pin means; aya hides it in one error type for each kind of object.

use std::{
    ffi::CString,
    fs::File,
    io,
    mem::{size_of, zeroed},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr,
};

use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_map_info, bpf_map_type, bpf_prog_info,
};

/// Kind, sizes, flags and id of a pinned map.
pub(crate) fn map_info(pin: &Path) -> io::Result<bpf_map_info> {
    let map = open_pin(pin)?;
    // SAFETY: plain data, for which zeroes are valid.
    let mut info: bpf_map_info = unsafe { zeroed() };
    read_info(&map, &mut info)?;
    Ok(info)
}

/// The program of a link, and where it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// The id of the link.
    pub(crate) id: u32,
    /// The id of the cgroup, which is its inode number; 0 once the cgroup is removed.
    pub(crate) cgroup: u64,
    /// The id of the program.
    pub(crate) program: u32,
    /// The hook (`enum bpf_attach_type`).
    pub(crate) hook: u32,
}

/// Reads a pinned link.
pub(crate) fn link_info(pin: &Path) -> io::Result<LinkInfo> {
    let link = open_pin(pin)?;
    // SAFETY: plain data, for which zeroes are valid.
    let mut info: bpf_link_info = unsafe { zeroed() };
    read_info(&link, &mut info)?;
    // SAFETY: for a cgroup link, the kernel fills in this part of the union. For other links the part
    // holds zeroes or other fields, and any bits are valid integers.
    let (cgroup, hook) = unsafe {
        let link = info.__bindgen_anon_1.cgroup;
        (link.cgroup_id, link.attach_type)
    };
    Ok(LinkInfo { id: info.id, cgroup, program: info.prog_id, hook })
}

/// The id of a pinned program.
pub(crate) fn program_id(pin: &Path) -> io::Result<u32> {
    let program = open_pin(pin)?;
    // SAFETY: plain data, for which zeroes are valid.
    let mut info: bpf_prog_info = unsafe { zeroed() };
    read_info(&program, &mut info)?;
    Ok(info.id)
}

/// Makes a pinned link run a pinned program from now on. Every call on the hook runs the old or the new
/// program (`__cgroup_bpf_replace` in kernel/bpf/cgroup.c, kernel 5.7).
pub(crate) fn update_link(link: &Path, program: &Path) -> io::Result<()> {
    let (link, program) = (open_pin(link)?, open_pin(program)?);
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Opens the output of a loaded iterator over the elements of a map (kernel 5.9).
pub(crate) fn iterate(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<File> {
    // `union bpf_iter_link_info` with a map in it.
    let info = map.as_raw_fd();
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.attach_type = bpf_attach_type::BPF_TRACE_ITER as u32;
    attr.link_create.__bindgen_anon_3.__bindgen_anon_1.iter_info = (&raw const info) as u64;
    attr.link_create.__bindgen_anon_3.__bindgen_anon_1.iter_info_len = size_of_val(&info) as u32;
    let link = bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: as above.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.iter_create.link_fd = link.as_raw_fd() as u32;
    bpf_fd(bpf_cmd::BPF_ITER_CREATE, &mut attr).map(File::from)
}

/// Waits until every BPF program that runs now has ended.
///
/// Programs run inside RCU read sections. Replacing an element of a map in map waits for an RCU grace
/// period before it returns (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c). membarrier(2) would do
/// the same, but not with `nohz_full`.
pub(crate) fn wait_for_programs() -> io::Result<()> {
    let inner = create_array(bpf_map_type::BPF_MAP_TYPE_ARRAY, None)?;
    let outer = create_array(bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS, Some(&inner))?;
    let mut value = inner.as_raw_fd().to_ne_bytes();
    let mut attr = element(outer.as_fd(), &[0; 4], &mut value);
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

/// Opens a pinned object.
pub(crate) fn open_pin(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// Fills in one of the `bpf_*_info` structures.
pub(crate) fn read_info<T>(object: &OwnedFd, info: &mut T) -> io::Result<()> {
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.info.bpf_fd = object.as_raw_fd() as u32;
    attr.info.info_len = size_of::<T>() as u32;
    attr.info.info = ptr::from_mut(info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// The attribute of a command on one element.
pub(super) fn element<const K: usize, const V: usize>(
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

/// Calls `bpf(2)`.
pub(crate) fn bpf(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the attribute is valid for the command, and the memory to which it points outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, cmd as libc::c_int, attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Calls `bpf(2)` with a command that returns a new file descriptor.
pub(crate) fn bpf_fd(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(cmd, attr)?;
    // SAFETY: these commands return a new file descriptor, which only we own.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
