//! Lookups while an entry is replaced. The kernel puts the new element of a hash first in its chain and
//! then removes the old one. A lookup between the two finds neither.

use std::{
    ffi::CString,
    io,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::scene::{PORT, Scene, list};

/// Commands and layout from include/uapi/linux/bpf.h, for little-endian machines.
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

type Entry = ([u8; 12], [u8; 8]);

fn bpf(command: libc::c_long, mut attr: [u64; 16]) -> io::Result<(i32, [u64; 16])> {
    // SAFETY: the callers point to buffers that are large enough and outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(&attr)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok((result as i32, attr)) }
}

fn open(pin: &Path) -> i32 {
    let path = CString::new(pin.as_os_str().as_bytes()).unwrap();
    let mut attr = [0; 16];
    attr[0] = path.as_ptr() as u64;
    bpf(BPF_OBJ_GET, attr).unwrap().0
}

fn update(map: i32, (key, value): &Entry) {
    let mut attr = [0; 16];
    attr[0] = map as u64;
    attr[1] = key.as_ptr() as u64;
    attr[2] = value.as_ptr() as u64;
    bpf(BPF_MAP_UPDATE_ELEM, attr).unwrap();
}

/// More entries than any bucket is likely to have. With 5,000 entries in 8,192 buckets, the first bucket with
/// several entries has four or more in one run of forty.
const MATES: usize = 16;

/// Two entries of one bucket. A batch of one element has no room for a bucket of two.
fn bucket_mates(map: i32) -> [Entry; 2] {
    let (mut position, mut next) = (0_u32, 0_u32);
    let mut started = false;
    loop {
        let mut keys = [[0_u8; 12]; MATES];
        let mut values = [[0_u8; 8]; MATES];
        let mut batch = |count: u64| {
            let mut attr = [0; 16];
            attr[0] = if started { &raw const position as u64 } else { 0 };
            attr[1] = &raw mut next as u64;
            attr[2] = keys.as_mut_ptr() as u64;
            attr[3] = values.as_mut_ptr() as u64;
            attr[4] = count | (map as u64) << 32;
            bpf(BPF_MAP_LOOKUP_BATCH, attr)
        };
        match batch(1) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                // In the last buckets, the batch ends with ENOENT; the elements that it read still count.
                if let Err(error) = batch(MATES as u64) {
                    assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
                }
                return [(keys[0], values[0]), (keys[1], values[1])];
            }
            Err(error) => panic!("no two entries in one bucket: {error}"),
        }
        (position, started) = (next, true);
    }
}

#[test]
#[cfg(target_endian = "little")]
fn no_connect_misses_a_vip_whose_entry_is_replaced_all_the_time() {
    let scene = Scene::new(1);
    let mut table = scene.table(&list([0]));
    for number in 0..5000 {
        let vip = format!("169.254.{}.{}", 100 + number / 250, number % 250);
        table +=
            &format!("[apps.shop.relationships.r{number}]\nservice = \"shop\"\nvip = \"{vip}\"\n");
    }
    scene.vipnat.apply(&table);
    let map = open(&scene.vipnat.bpffs().join("maps/vips"));
    let mates = bucket_mates(map);
    let [.., a, b, c, d, _, _, _, _] = mates[0].0;
    assert_eq!(mates[0].0[..4], mates[1].0[..4], "both are the app's");

    let replacing = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(30);
            while replacing.load(Ordering::Relaxed) && Instant::now() < end {
                mates.iter().for_each(|mate| update(map, mate));
            }
        });
        let probe = format!("udp {a}.{b}.{c}.{d}:{PORT} --count 10000 --threads 2");
        let reports = scene.app.probes(&probe);
        replacing.store(false, Ordering::Relaxed);
        let failed: Vec<_> = reports.iter().filter(|report| !report.ok).collect();
        assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), reports.len(), failed[0]);
    });
    // SAFETY: opened above, and not used afterwards.
    unsafe { libc::close(map) };
}
