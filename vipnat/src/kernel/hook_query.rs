//! Who is attached where: programs and links by number, and the programs on a hook of a cgroup.

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

use aya::programs::CgroupSockAddrAttachType as Hook;
use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type, bpf_map_info, bpf_prog_info,
};

use crate::kernel::bpf_syscall::{bpf, bpf_fd, open_pin, read_info};

/// The kernel takes no more on one hook of one cgroup (`BPF_CGROUP_MAX_PROGS`).
const MOST_PROGRAMS: usize = 64;

/// The programs that are attached to a cgroup itself at one hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct OnHook {
    /// `BPF_F_ALLOW_MULTI`, `BPF_F_ALLOW_OVERRIDE` or nothing: the same for all of them.
    pub(in super::super) flags: u32,
    /// Their ids, in the order in which they run.
    pub(in super::super) programs: Vec<u32>,
}

/// Asks the kernel who is attached to a cgroup (`__cgroup_bpf_query` in kernel/bpf/cgroup.c).
///
/// # Errors
///
/// `PermissionDenied` without CAP_NET_ADMIN.
pub(in super::super) fn query(cgroup: BorrowedFd<'_>, hook: Hook) -> io::Result<OnHook> {
    let mut programs = vec![0; MOST_PROGRAMS];
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.query.__bindgen_anon_1.target_fd = cgroup.as_raw_fd() as u32;
    attr.query.attach_type = bpf_attach_type::from(hook) as u32;
    attr.query.prog_ids = programs.as_mut_ptr() as u64;
    attr.query.__bindgen_anon_2.prog_cnt = MOST_PROGRAMS as u32;
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: the kernel wrote both.
    let (flags, count) = unsafe { (attr.query.attach_flags, attr.query.__bindgen_anon_2.prog_cnt) };
    programs.truncate(count as usize);
    Ok(OnHook { flags, programs })
}

/// Detaches a pinned link, which stays as an object (kernel 5.9). Unlinking alone leaves it attached as
/// long as anybody has it open, and otherwise until a worker of the kernel comes to it (`bpf_link_put` in
/// kernel/bpf/syscall.c).
pub(in super::super) fn detach_pinned_link(pin: &Path) -> io::Result<()> {
    detach(&open_pin(pin)?)
}

fn detach(link: &OwnedFd) -> io::Result<()> {
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// A link of any program to any cgroup. It is not kept open: there may be more than a process may open.
#[derive(Debug)]
pub(in super::super) struct CgroupLink {
    /// Its id.
    pub(in super::super) id: u32,
    /// The id of the program.
    pub(in super::super) program: u32,
    /// The id of the cgroup; 0 if it is detached.
    pub(in super::super) cgroup: u64,
}

impl CgroupLink {
    /// Detaches it, whoever has it open.
    pub(in super::super) fn detach(&self) -> io::Result<()> {
        by_id(bpf_cmd::BPF_LINK_GET_FD_BY_ID, self.id)?.map_or(Ok(()), |link| detach(&link))
    }
}

/// All links to cgroups there are. Needs CAP_SYS_ADMIN.
pub(in super::super) fn cgroup_links() -> io::Result<Vec<CgroupLink>> {
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

/// What there is to know of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct ProgramInfo {
    /// Its id.
    pub(in super::super) id: u32,
    /// Its name, of 15 characters at most; whoever loaded it chose it.
    pub(in super::super) name: String,
    /// The ids of the maps that it uses.
    pub(in super::super) maps: Vec<u32>,
}

/// A program by its id; `None` if it is gone. Needs CAP_SYS_ADMIN.
pub(in super::super) fn program_by_id(id: u32) -> io::Result<Option<ProgramInfo>> {
    let program = by_id(bpf_cmd::BPF_PROG_GET_FD_BY_ID, id)?;
    program.map(|program| program_info(&program)).transpose()
}

/// All programs there are. Needs CAP_SYS_ADMIN.
pub(in super::super) fn programs() -> io::Result<Vec<ProgramInfo>> {
    let mut programs = Vec::new();
    each(bpf_cmd::BPF_PROG_GET_NEXT_ID, bpf_cmd::BPF_PROG_GET_FD_BY_ID, |fd| {
        programs.push(program_info(&fd)?);
        Ok(())
    })?;
    Ok(programs)
}

/// What is pinned as a program. If it is none, it has no name that a program of ours has.
pub(in super::super) fn pinned_program(pin: &Path) -> io::Result<ProgramInfo> {
    program_info(&open_pin(pin)?)
}

/// Pins a map, given by its id, in place of what is there.
pub(in super::super) fn pin_map(id: u32, pin: &Path) -> io::Result<()> {
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

/// A map by its id, and its name; `None` if it is gone. Needs CAP_SYS_ADMIN.
pub(in super::super) fn map_by_id(id: u32) -> io::Result<Option<(bpf_map_info, String)>> {
    let Some(map) = by_id(bpf_cmd::BPF_MAP_GET_FD_BY_ID, id)? else {
        return Ok(None);
    };
    // SAFETY: plain data, for which zeroes are valid.
    let mut info: bpf_map_info = unsafe { zeroed() };
    read_info(&map, &mut info)?;
    Ok(Some((info, text(&info.name))))
}

/// Opens every object of a kind, one after the other; those that go meanwhile are passed over.
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
    // All kinds of ids are in the same place.
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    match bpf_fd(command, &mut attr) {
        // EAGAIN: a link that is being made.
        Err(error) if [Some(libc::ENOENT), Some(libc::EAGAIN)].contains(&error.raw_os_error()) => {
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// A name in an info, which the kernel ends with a zero.
fn text(name: &[c_char; 16]) -> String {
    let bytes = name.map(|byte| byte as u8);
    CStr::from_bytes_until_nul(&bytes).unwrap_or_default().to_string_lossy().into_owned()
}
