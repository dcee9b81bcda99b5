//! Queries the programs on a hook of a cgroup, and programs, links and maps by their ids.
//!
//! aya 0.14 queries no cgroup of a sock_addr hook, and its link info has no cgroup. Its lists end with an
//! error if an object is removed meanwhile. To list a program's maps, it opens the program again by id,
//! which needs CAP_SYS_ADMIN even for a pinned program.

use std::{
    ffi::{CStr, CString, c_char},
    fs, io,
    mem::zeroed,
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::generated::{
    bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type, bpf_map_info, bpf_prog_info,
};

use crate::kernel::bpf_syscall::{bpf, bpf_fd, open_pin, read_info};

/// The kernel's limit for one hook of one cgroup (`BPF_CGROUP_MAX_PROGS`).
const MOST_PROGRAMS: usize = 64;

/// The programs that are attached to one hook of a cgroup itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnHook {
    /// `BPF_F_ALLOW_MULTI`, `BPF_F_ALLOW_OVERRIDE` or 0: the same for all of them.
    pub(crate) flags: u32,
    /// Their ids, in the order in which they run.
    pub(crate) programs: Vec<u32>,
}

/// Queries the programs on a hook of a cgroup (`__cgroup_bpf_query` in kernel/bpf/cgroup.c).
///
/// # Errors
///
/// `PermissionDenied` without CAP_NET_ADMIN.
pub(crate) fn query(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<OnHook> {
    let mut programs = [0; MOST_PROGRAMS];
    let (flags, programs) = query_into(cgroup, attach_type, &mut programs)?;
    Ok(OnHook { flags, programs: programs.to_vec() })
}

/// Whether these programs are on a hook of a cgroup, and no others.
///
/// # Errors
///
/// As [`query`].
pub(crate) fn is_as(cgroup: BorrowedFd<'_>, attach_type: u32, on: &OnHook) -> io::Result<bool> {
    let mut programs = [0; MOST_PROGRAMS];
    let (flags, programs) = query_into(cgroup, attach_type, &mut programs)?;
    Ok(flags == on.flags && programs == on.programs)
}

/// Returns the flags and the programs on a hook.
fn query_into<'a>(
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
    programs: &'a mut [u32; MOST_PROGRAMS],
) -> io::Result<(u32, &'a [u32])> {
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.query.__bindgen_anon_1.target_fd = cgroup.as_raw_fd() as u32;
    attr.query.attach_type = attach_type;
    attr.query.prog_ids = programs.as_mut_ptr() as u64;
    attr.query.__bindgen_anon_2.prog_cnt = MOST_PROGRAMS as u32;
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: the kernel wrote both fields.
    let (flags, count) = unsafe { (attr.query.attach_flags, attr.query.__bindgen_anon_2.prog_cnt) };
    Ok((flags, &programs[..MOST_PROGRAMS.min(count as usize)]))
}

/// Detaches a pinned link, which stays as an object (kernel 5.9).
///
/// An unlinked link stays attached as long as a process has it open, and then until a kernel worker runs
/// (`bpf_link_put` in kernel/bpf/syscall.c).
pub(crate) fn detach_pinned_link(pin: &Path) -> io::Result<()> {
    detach(&open_pin(pin)?)
}

fn detach(link: &OwnedFd) -> io::Result<()> {
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// A link of any program to any cgroup. It is not kept open, since a process may open fewer files than
/// there are links.
#[derive(Debug)]
pub(crate) struct CgroupLink {
    /// The id of the link.
    pub(crate) id: u32,
    /// The id of the program.
    pub(crate) program: u32,
    /// The id of the cgroup; 0 if it is detached.
    pub(crate) cgroup: u64,
}

impl CgroupLink {
    /// Detaches it, also if another process has it open.
    pub(crate) fn detach(&self) -> io::Result<()> {
        by_id(bpf_cmd::BPF_LINK_GET_FD_BY_ID, self.id)?.map_or(Ok(()), |link| detach(&link))
    }
}

/// All links to cgroups on this machine. Needs CAP_SYS_ADMIN.
pub(crate) fn cgroup_links() -> io::Result<Vec<CgroupLink>> {
    let mut links = Vec::new();
    each(bpf_cmd::BPF_LINK_GET_NEXT_ID, bpf_cmd::BPF_LINK_GET_FD_BY_ID, |fd| {
        // SAFETY: plain data, for which zeroes are valid.
        let mut info: bpf_link_info = unsafe { zeroed() };
        read_info(&fd, &mut info)?;
        if info.type_ == bpf_link_type::BPF_LINK_TYPE_CGROUP as u32 {
            // SAFETY: the kernel fills in this part of the union for links of this type.
            let cgroup = unsafe { info.__bindgen_anon_1.cgroup.cgroup_id };
            links.push(CgroupLink { id: info.id, program: info.prog_id, cgroup });
        }
        Ok(())
    })?;
    Ok(links)
}

/// Id, name and maps of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProgramInfo {
    /// Its id.
    pub(crate) id: u32,
    /// Its name, at most 15 characters. The process that loaded the program chose it.
    pub(crate) name: String,
    /// The ids of the maps that it uses.
    pub(crate) maps: Vec<u32>,
}

/// Reads a program by its id; `None` if there is none. Needs CAP_SYS_ADMIN.
pub(crate) fn program_by_id(id: u32) -> io::Result<Option<ProgramInfo>> {
    let program = by_id(bpf_cmd::BPF_PROG_GET_FD_BY_ID, id)?;
    program.map(|program| program_info(&program)).transpose()
}

/// All programs on this machine. Needs CAP_SYS_ADMIN.
pub(crate) fn programs() -> io::Result<Vec<ProgramInfo>> {
    let mut programs = Vec::new();
    each(bpf_cmd::BPF_PROG_GET_NEXT_ID, bpf_cmd::BPF_PROG_GET_FD_BY_ID, |fd| {
        programs.push(program_info(&fd)?);
        Ok(())
    })?;
    Ok(programs)
}

/// Reads a pinned program. For a pin of another kind, the name is none of vipnat's.
pub(crate) fn pinned_program(pin: &Path) -> io::Result<ProgramInfo> {
    program_info(&open_pin(pin)?)
}

/// Pins a map, given by its id, in place of an existing pin.
pub(crate) fn pin_map(id: u32, pin: &Path) -> io::Result<()> {
    let map = by_id(bpf_cmd::BPF_MAP_GET_FD_BY_ID, id)?;
    let map = map.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let path = CString::new(pin.as_os_str().as_bytes())?;
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = map.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

fn program_info(program: &OwnedFd) -> io::Result<ProgramInfo> {
    let mut maps = vec![0_u32; 64];
    // SAFETY: plain data, for which zeroes are valid.
    let mut info: bpf_prog_info = unsafe { zeroed() };
    info.nr_map_ids = maps.len() as u32;
    info.map_ids = maps.as_mut_ptr() as u64;
    read_info(program, &mut info)?;
    maps.truncate(info.nr_map_ids as usize);
    Ok(ProgramInfo { id: info.id, name: text(&info.name), maps })
}

/// Reads a map and its name by its id; `None` if there is none. Needs CAP_SYS_ADMIN.
pub(crate) fn map_by_id(id: u32) -> io::Result<Option<(bpf_map_info, String)>> {
    let Some(map) = by_id(bpf_cmd::BPF_MAP_GET_FD_BY_ID, id)? else {
        return Ok(None);
    };
    // SAFETY: plain data, for which zeroes are valid.
    let mut info: bpf_map_info = unsafe { zeroed() };
    read_info(&map, &mut info)?;
    Ok(Some((info, text(&info.name))))
}

/// Opens every object of a kind, one after the other. It skips objects that are removed meanwhile.
fn each(
    next: bpf_cmd,
    open: bpf_cmd,
    mut found: impl FnMut(OwnedFd) -> io::Result<()>,
) -> io::Result<()> {
    let mut last = 0;
    loop {
        // SAFETY: bpf_attr is plain data, for which zeroes are valid.
        let mut attr: bpf_attr = unsafe { zeroed() };
        attr.__bindgen_anon_6.__bindgen_anon_1.start_id = last;
        match bpf(next, &mut attr) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            other => other?,
        };
        // SAFETY: the kernel wrote this field.
        last = unsafe { attr.__bindgen_anon_6.next_id };
        if let Some(fd) = by_id(open, last)? {
            found(fd)?;
        }
    }
}

/// Opens an object by its id; `None` if there is none.
fn by_id(command: bpf_cmd, id: u32) -> io::Result<Option<OwnedFd>> {
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    // The ids of all kinds are in the same place.
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    match bpf_fd(command, &mut attr) {
        // EAGAIN: another process is making the link.
        Err(error) if [Some(libc::ENOENT), Some(libc::EAGAIN)].contains(&error.raw_os_error()) => {
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// A name in an info; the kernel ends it with a zero.
fn text(name: &[c_char; 16]) -> String {
    let bytes = name.map(|byte| byte as u8);
    CStr::from_bytes_until_nul(&bytes).unwrap_or_default().to_string_lossy().into_owned()
}
