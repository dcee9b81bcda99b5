fn main(){ let b: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vipnat-ebpf")); println!("{}", b.len()); }
