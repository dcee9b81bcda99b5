//! Maps of plain bytes, read and written many elements at a time.
//!
//! aya 0.14 has neither the batch commands nor memory-mapped arrays: it makes two system calls for each
//! element that it reads, and one for each that it writes.
//!
//! Both pay off in figure 3 of the benchmarks (`cargo xtask bench --only apply`, 60,000 VIPs, medians of
//! five paired rounds): batches apply a table from nothing in 198 ms, single writes in 225 ms. With mapped
//! arrays one change takes 52 ms, with batched reads 64 ms.

use std::{
    io,
    marker::PhantomData,
    mem::zeroed,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    ptr,
};

use aya_obj::generated::{BPF_F_MMAPABLE, bpf_attr, bpf_cmd, bpf_map_info, bpf_map_type};

use super::bpf_syscall::{bpf, element, open_pin, read_info};

/// A pinned map with keys of `K` bytes and one value of `V` bytes for each key.
///
/// The kernel copies as many bytes as the map's sizes say, even if the caller's buffer is smaller. So
/// [`ByteMap::open`] compares the sizes.
#[derive(Debug)]
pub(crate) struct ByteMap<const K: usize, const V: usize> {
    fd: OwnedFd,
    capacity: u32,
    sizes: PhantomData<([u8; K], [u8; V])>,
}

impl<const K: usize, const V: usize> ByteMap<K, V> {
    /// Opens a pinned map.
    ///
    /// # Errors
    ///
    /// `InvalidData` if the map is of another kind, or has other sizes.
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

    /// The file descriptor, for system calls that take a map.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads one element; `None` if it does not exist.
    pub(crate) fn lookup(&self, key: [u8; K]) -> io::Result<Option<[u8; V]>> {
        let mut value = [0; V];
        let mut attr = element(self.fd.as_fd(), &key, &mut value);
        Ok(found(bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr))?.map(|_| value))
    }

    /// Writes one element. Returns `false` if it does not exist, and this kind of map cannot create it.
    pub(crate) fn update(&self, key: [u8; K], mut value: [u8; V]) -> io::Result<bool> {
        let mut attr = element(self.fd.as_fd(), &key, &mut value);
        Ok(found(bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr))?.is_some())
    }

    /// Writes elements one after the other, in this order. After an error, the first of them may be
    /// written (`generic_map_update_batch` in kernel/bpf/syscall.c, kernel 5.6).
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

    /// The maximum number of elements.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Removes elements one after the other. A missing element is no error
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
            // SAFETY: the kernel wrote the number of elements that it removed before the missing one.
            let removed = unsafe { attr.batch.count } as usize;
            rest = rest.get(removed + 1..).unwrap_or_default();
        }
        Ok(())
    }

    /// Calls `each` for every element of a hash or array (kernel 5.6).
    pub(crate) fn for_each(&self, mut each: impl FnMut([u8; K], [u8; V])) -> io::Result<()> {
        // The place where the next batch begins: the bucket number of a hash, or the last key of an array.
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
                // One bucket has more elements than `chunk`.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    position = previous;
                    chunk *= 2;
                    continue;
                }
                result => found(result)?.is_none(),
            };
            // SAFETY: the kernel wrote the number of elements that it returned into this field.
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

/// The number of elements that are copied at once: few enough to stay in the cache of the CPU.
const CHUNK: usize = 512;

impl<const V: usize> ByteMap<4, V> {
    /// All elements of an array, in their order, in the form that `decode` gives them.
    ///
    /// It maps the array into memory, if the array allows that. With [`ByteMap::for_each`], the kernel looks up
    /// and copies element after element.
    pub(crate) fn all<T>(&self, decode: impl Fn([u8; V]) -> T) -> io::Result<Vec<T>> {
        // The kernel rounds elements up to eight bytes.
        const { assert!(V.is_multiple_of(8)) };
        // SAFETY: plain data, for which zeroes are valid.
        let mut info: bpf_map_info = unsafe { zeroed() };
        read_info(&self.fd, &mut info)?;
        if info.map_flags & BPF_F_MMAPABLE == 0 {
            let mut values = Vec::with_capacity(self.capacity as usize);
            // The kernel returns them in their order.
            self.for_each(|_, value| values.push(decode(value)))?;
            return Ok(values);
        }
        let capacity = self.capacity as usize;
        let length = capacity * V;
        // SAFETY: the mapping is new, at an address that the kernel chooses.
        let array = unsafe {
            let (access, fd) = (libc::PROT_READ, self.fd.as_raw_fd());
            libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, fd, 0)
        };
        if array == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut values = Vec::with_capacity(capacity);
        // A process that ignores the lock may write meanwhile, so elements are copied before they are decoded.
        let mut chunk = [[0; V]; CHUNK];
        for start in (0..capacity).step_by(CHUNK) {
            let length = CHUNK.min(capacity - start);
            // SAFETY: the mapping has `capacity` elements, and the chunk has room for `length` of them. Any bytes
            // are valid.
            unsafe {
                let elements = array.cast::<[u8; V]>().add(start);
                ptr::copy_nonoverlapping(elements, chunk.as_mut_ptr(), length);
            }
            values.extend(chunk[..length].iter().map(|element| decode(*element)));
        }
        // SAFETY: the mapping has this length, and is not used afterwards.
        unsafe { libc::munmap(array, length) };
        Ok(values)
    }
}

/// `None` if the kernel answered that the element does not exist (ENOENT).
fn found(result: io::Result<i32>) -> io::Result<Option<i32>> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        other => other.map(Some),
    }
}
