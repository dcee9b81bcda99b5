//! The BPF objects depend on their source alone, not on the folders in which they are built.

use std::{env, path::Path};

/// The objects of the build script. The program embeds `vipnat-ebpf`, whose hash identifies the build.
const OBJECTS: [(&str, &[u8]); 2] = [
    ("vipnat-ebpf", include_bytes!(concat!(env!("OUT_DIR"), "/vipnat-ebpf"))),
    ("list-conns", include_bytes!(concat!(env!("OUT_DIR"), "/list-conns"))),
];

/// Cargo's name for the source of the core library, in any place.
const CORE: &str = "/rustc/";

#[test]
fn no_object_names_a_folder_of_the_machine_that_built_it() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    let mut folders = vec![workspace];
    folders.extend(env::home_dir());
    folders.extend(env::var_os("CARGO_HOME").map(Into::into));
    let folders: Vec<_> = folders.iter().map(|folder| format!("{}/", folder.display())).collect();
    for (object, bytes) in OBJECTS {
        // Strings in debug information and BTF end with a zero.
        for text in bytes.split(|byte| *byte == 0).filter_map(|text| str::from_utf8(text).ok()) {
            let foreign = is_absolute(text) && !text.starts_with(CORE)
                || folders.iter().any(|folder| text.contains(folder));
            assert!(!foreign, "{object} has the path {text}; see vipnat-ebpf/.cargo/config.toml");
        }
    }
}

/// Whether a text looks like an absolute path. Code and numbers can look like a short one.
fn is_absolute(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| rest.starts_with(char::is_alphanumeric))
        && text.len() > 8
        && text[1..].contains('/')
        && text.chars().all(|char| char.is_ascii_graphic())
}
