//! Changes of pinned state by other hands: root with rm, mv and bpftool.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use vipnat_common::{Slot, SlotFlags};
use vipnat_testkit::{Cgroup, bpf, outcome};

/// The bytes of the VIP of the name `db`, as bpftool writes them.
const DB: [&str; 4] = ["0xa9", "0xfe", "0x25", "0xd1"];

/// The pinned state of an instance.
#[derive(Clone, Copy)]
pub(crate) struct Foreign<'a> {
    pub(crate) bpffs: &'a Path,
}

impl Foreign<'_> {
    /// The pin of a map.
    pub(crate) fn map(self, map: &str) -> PathBuf {
        self.bpffs.join("maps").join(map)
    }

    /// The directory of an app.
    pub(crate) fn app(self, name: &str) -> PathBuf {
        let apps = fs::read_dir(self.bpffs.join("apps")).unwrap();
        let mut apps = apps.map(|app| app.unwrap().path());
        let name = format!(":{name}");
        apps.find(|app| app.to_str().unwrap().ends_with(&name)).expect("there is such an app")
    }

    /// The directory of an app's links on a cgroup that its table names.
    pub(crate) fn links(self, app: &str, cgroup: &Cgroup) -> PathBuf {
        self.app(app).join(fs::metadata(cgroup.path()).unwrap().ino().to_string())
    }

    /// Replaces a pin by one of another vipnat, or by another one of ours.
    pub(crate) fn exchange(self, at: &Path, with: &Path) {
        let object = bpf::open(with).unwrap();
        let _ = fs::remove_file(at);
        bpf::pin(&object, at);
    }

    /// Writes an element of a map, with arguments of bpftool.
    pub(crate) fn write(self, map: &str, words: &str) {
        bpftool("map", "update", &self.map(map), words);
    }

    /// Deletes the first entry with the VIP of `db`.
    pub(crate) fn delete_entry(self) {
        let (key, _) = self.element("vips");
        bpftool("map", "delete", &self.map("vips"), &format!("key {}", key.join(" ")));
    }

    /// Detaches a pinned link.
    pub(crate) fn detach(self, link: &Path) {
        bpftool("link", "detach", link, "");
    }

    /// Gives a cgroup to an app, or to none.
    pub(crate) fn switch(self, cgroup: &Cgroup, app: &str) {
        let id = fs::metadata(cgroup.path()).unwrap().ino();
        let key: Vec<_> = id.to_ne_bytes().iter().map(u8::to_string).collect();
        self.write("scope", &format!("key {} value {app} 0 0 0 0 0 0 0", key.join(" ")));
    }

    /// The bytes of the first slot or entry with the VIP of `db`: its key and its value, as arguments of
    /// bpftool. Retired slots don't count.
    pub(crate) fn element(self, map: &str) -> (Vec<String>, Vec<String>) {
        let dump: Value =
            serde_json::from_str(&bpftool("map", "dump", &self.map(map), "")).unwrap();
        let bytes = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|byte| byte.as_str().unwrap().to_owned()).collect()
        };
        let all = dump.as_array().unwrap();
        let all = all.iter().map(|element| (bytes(&element["key"]), bytes(&element["value"])));
        let has = |(key, value): &(Vec<String>, Vec<String>)| {
            let is_retired = |flags: &str| {
                u16::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap()
                    & SlotFlags::RETIRED.bits()
                    != 0
            };
            let retired = value.len() == size_of::<Slot>() && is_retired(&value[18]);
            !retired && [key, value].iter().any(|bytes| bytes.windows(4).any(|bytes| bytes == DB))
        };
        all.into_iter().find(has).unwrap()
    }

    /// Overwrites bytes of the value of that element.
    pub(crate) fn overwrite(self, map: &str, at: usize, bytes: &[&str]) {
        let (key, mut value) = self.element(map);
        for (byte, new) in value[at..].iter_mut().zip(bytes) {
            *byte = (*new).to_owned();
        }
        self.write(map, &format!("key {} value {}", key.join(" "), value.join(" ")));
    }
}

/// Runs a command of bpftool on a pin, with more words. Gives its output, as JSON.
fn bpftool(object: &str, command: &str, pin: &Path, words: &str) -> String {
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["--json", object, command, "pinned"]).arg(pin);
    let outcome = outcome(bpftool.args(words.split_ascii_whitespace()));
    assert!(outcome.status.success(), "{object} {command} {} {words}: {outcome}", pin.display());
    outcome.stdout
}
