//! The few `bpf(2)` commands that aya 0.14 does not offer, and maps of plain bytes on top of them.

use std::{
    ffi::CString,
    fs::File,
    io,
    marker::PhantomData,
    mem::{size_of, zeroed},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr,
};

use aya_obj::generated::{
    BPF_F_MMAPABLE, bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_map_info, bpf_map_type,
    bpf_prog_info,
};

/// A pinned map whose keys and values are of exactly these sizes, and not one value for each CPU:
/// the kernel copies as much as the map says, not as much as the caller has room for.
#[derive(Debug)]
pub(crate) struct ByteMap<const K: usize, const V: usize> {
    fd: OwnedFd,
    capacity: u32,
    sizes: PhantomData<([u8; K], [u8; V])>,
}

impl<const K: usize, const V: usize> ByteMap<K, V> {
    /// Opens a pin.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it is a map of another kind or other sizes.
    pub(crate) fn open(pin: &Path, kind: bpf_map_type) -> io::Result<Self> {
        let fd = open_pin(pin)?;
        // SAFETY: plain data, for which zeroes are valid.
        let mut info: bpf_map_info = unsafe { zeroed() };
        read_info(&fd, &mut info)?;
        let sizes = (info.type_, info.key_size as usize, info.value_size as usize);
        if sizes != (kind as u32, K, V) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not the map that vipnat made"));
        }
        Ok(Self { fd, capacity: info.max_entries, sizes: PhantomData })
    }

    /// For system calls that take a map.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads one element; `None` if there is none.
    pub(crate) fn lookup(&self, key: [u8; K]) -> io::Result<Option<[u8; V]>> {
        let mut value = [0; V];
        let mut attr = element(self.fd.as_fd(), &key, &mut value);
        Ok(found(bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr))?.map(|_| value))
    }

    /// Writes one element. Returns whether it could: `false` means that it does not exist and the
    /// kind of map cannot make it.
    pub(crate) fn update(&self, key: [u8; K], mut value: [u8; V]) -> io::Result<bool> {
        let mut attr = element(self.fd.as_fd(), &key, &mut value);
        Ok(found(bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr))?.is_some())
    }

    /// Writes elements, one after the other, in this order. After an error, some of them are written
    /// (`generic_map_update_batch` in kernel/bpf/syscall.c, kernel 5.6).
    pub(crate) fn update_all(
        &self,
        elements: impl Iterator<Item = ([u8; K], [u8; V])>,
    ) -> io::Result<()> {
        let (keys, values): (Vec<_>, Vec<_>) = elements.unzip();
        if let ([key], [value]) = (&*keys, &*values) {
            return self.update(*key, *value).map(drop);
        }
        if keys.is_empty() {
            return Ok(());
        }
        // SAFETY: bpf_attr is plain data, for which zeroes are valid.
        let mut attr: bpf_attr = unsafe { zeroed() };
        attr.batch.map_fd = self.fd.as_raw_fd() as u32;
        attr.batch.keys = keys.as_ptr() as u64;
        attr.batch.values = values.as_ptr() as u64;
        attr.batch.count = keys.len() as u32;
        bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).map(drop)
    }

    /// How many elements it holds at most.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Removes elements, one after the other; it is no error if one is not there
    /// (`generic_map_delete_batch` in kernel/bpf/syscall.c, kernel 5.6).
    pub(crate) fn remove_all(&self, keys: impl Iterator<Item = [u8; K]>) -> io::Result<()> {
        let keys: Vec<_> = keys.collect();
        let mut rest = &keys[..];
        while !rest.is_empty() {
            // SAFETY: bpf_attr is plain data, for which zeroes are valid.
            let mut attr: bpf_attr = unsafe { zeroed() };
            attr.batch.map_fd = self.fd.as_raw_fd() as u32;
            attr.batch.keys = rest.as_ptr() as u64;
            attr.batch.count = rest.len() as u32;
            if found(bpf(bpf_cmd::BPF_MAP_DELETE_BATCH, &mut attr))?.is_some() {
                break;
            }
            // SAFETY: the kernel wrote how many it removed before one that was not there.
            let removed = unsafe { attr.batch.count } as usize;
            rest = rest.get(removed + 1..).unwrap_or_default();
        }
        Ok(())
    }

    /// Gives every element of a hash or array to `each` (kernel 5.6).
    pub(crate) fn for_each(&self, mut each: impl FnMut([u8; K], [u8; V])) -> io::Result<()> {
        // Where to go on. A hash keeps a bucket number in it, an array its last key.
        const { assert!(K <= 16) };
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
            attr.batch.map_fd = self.fd.as_raw_fd() as u32;
            attr.batch.in_batch = if started { previous.as_ptr() as u64 } else { 0 };
            attr.batch.out_batch = position.as_mut_ptr() as u64;
            attr.batch.keys = keys.as_mut_ptr() as u64;
            attr.batch.values = values.as_mut_ptr() as u64;
            attr.batch.count = chunk as u32;
            let done = match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
                // One bucket holds more than fits.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    position = previous;
                    chunk *= 2;
                    continue;
                }
                result => found(result)?.is_none(),
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
}

impl<const V: usize> ByteMap<4, V> {
    /// All elements of an array, in their order. If it can be mapped into memory, that takes a small
    /// part of the time of [`ByteMap::for_each`], in which the kernel looks up and copies element
    /// after element.
    pub(crate) fn all(&self) -> io::Result<Vec<[u8; V]>> {
        // The kernel rounds elements up to eight bytes.
        const { assert!(V.is_multiple_of(8)) };
        let mut values = vec![[0; V]; self.capacity as usize];
        // SAFETY: plain data, for which zeroes are valid.
        let mut info: bpf_map_info = unsafe { zeroed() };
        read_info(&self.fd, &mut info)?;
        if info.map_flags & BPF_F_MMAPABLE == 0 {
            self.for_each(|key, value| values[u32::from_ne_bytes(key) as usize] = value)?;
            return Ok(values);
        }
        let length = size_of_val(values.as_slice());
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let array = unsafe {
            let (access, fd) = (libc::PROT_READ, self.fd.as_raw_fd());
            libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, fd, 0)
        };
        if array == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is that long and gone afterwards. What others write to it meanwhile, if
        // they do not heed the lock, is bytes as well.
        unsafe {
            ptr::copy_nonoverlapping(array.cast(), values.as_mut_ptr(), values.len());
            libc::munmap(array, length);
        }
        Ok(values)
    }
}

/// What a pinned map is.
pub(crate) fn map_info(pin: &Path) -> io::Result<bpf_map_info> {
    let map = open_pin(pin)?;
    // SAFETY: plain data, for which zeroes are valid.
    let mut info: bpf_map_info = unsafe { zeroed() };
    read_info(&map, &mut info)?;
    Ok(info)
}

/// What a link connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// Its own id.
    pub(crate) id: u32,
    /// The cgroup, by id, which is its inode number; 0 once it is gone.
    pub(crate) cgroup: u64,
    /// The id of the program.
    pub(crate) program: u32,
    /// The hook (`enum bpf_attach_type`).
    pub(crate) hook: u32,
}

/// What a pinned link connects.
pub(crate) fn link_info(pin: &Path) -> io::Result<LinkInfo> {
    let link = open_pin(pin)?;
    // SAFETY: plain data, for which zeroes are valid.
    let mut info: bpf_link_info = unsafe { zeroed() };
    read_info(&link, &mut info)?;
    // SAFETY: the kernel filled in this part of the union if it is a cgroup link; it left zeroes
    // if the object is a smaller one, and any bits make a u64.
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

/// Makes a pinned link run a pinned program from now on. No call is made without a program: each
/// runs the old one or the new one (`__cgroup_bpf_replace` in kernel/bpf/cgroup.c, kernel 5.7).
pub(crate) fn update_link(link: &Path, program: &Path) -> io::Result<()> {
    let (link, program) = (open_pin(link)?, open_pin(program)?);
    // SAFETY: bpf_attr is plain data, for which zeroes are valid.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// What a loaded iterator writes about the elements of a map (kernel 5.9).
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
/// Replacing an element of a map in map waits for an RCU grace period before it returns
/// (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c), and programs run inside RCU read sections.
/// membarrier(2) would do as well, but not with `nohz_full`.
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

/// `None` if the kernel said that there is no such element.
fn found(result: io::Result<i32>) -> io::Result<Option<i32>> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        other => other.map(Some),
    }
}

pub(crate) fn bpf(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the attribute is valid for the command, and what it points to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, cmd as libc::c_int, attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

pub(crate) fn bpf_fd(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(cmd, attr)?;
    // SAFETY: these commands return a new file descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
