//! Other commands and other hands that change the state of a `vipnat run`. None of it touches a VIP that
//! applications use.

use std::{fs, io, path::Path};

use vipnat_common::{AppId, Protocol, Range, Slot, VipKey};

use crate::{
    Cgroup, Vipnat,
    bpf::{Info, write},
};

/// An app id that no apply gives.
const NOBODY: AppId = AppId(4_000_000_000);

/// The key of an entry that no table has.
const KEY: VipKey = VipKey::new(NOBODY, [169, 254, 9, 9], 0, Protocol::Any);

/// Something that happens to a state.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disturbance {
    /// `vipnat attach` gives a cgroup to an app, and the cgroup goes again.
    Attach,
    /// `vipnat apply` of another table.
    Apply,
    /// The name index is removed.
    RemoveNames,
    /// The name index is overwritten.
    WriteNames,
    /// A slot gets a backend, and an entry leads to it.
    WriteMaps,
    /// An app gets a directory.
    MakeApp,
    /// A change looks interrupted.
    Interrupt,
}

impl Disturbance {
    /// One of them, by a number.
    pub(crate) fn of(number: u32) -> Self {
        let all = [
            Self::Attach,
            Self::Attach,
            Self::Apply,
            Self::RemoveNames,
            Self::WriteNames,
            Self::WriteMaps,
            Self::MakeApp,
            Self::Interrupt,
        ];
        all[number as usize % all.len()]
    }

    /// Makes it happen. `app` is one of the table, and `table` another one.
    pub(crate) fn happen(self, vipnat: &Vipnat, app: &str, table: &str) {
        let bpffs = vipnat.bpffs();
        match self {
            Self::Attach => {
                let cgroup = Cgroup::new();
                vipnat.ok(["attach", "--app", app, "--cgroup", cgroup.relative()]);
            }
            Self::Apply => {
                // Without its lock file, no command knows of `run`.
                let _ = fs::remove_file(vipnat.beside("run"));
                let file = vipnat.file("other.toml", table);
                vipnat.ok(["apply".as_ref(), file.as_os_str()]);
            }
            Self::RemoveNames => drop(fs::remove_file(vipnat.beside("names"))),
            Self::WriteNames => {
                fs::write(vipnat.beside("names"), "no names\n").expect("write the names");
            }
            // Maps and directories may be absent for a moment, while another build takes over.
            Self::WriteMaps => drop(write_maps(&bpffs.join("maps"))),
            Self::MakeApp => drop(fs::create_dir(bpffs.join("apps/3999999999:nobody"))),
            Self::Interrupt => drop(fs::create_dir(bpffs.join("maps/changing"))),
        }
    }
}

/// Uses the last slot of the map.
fn write_maps(maps: &Path) -> io::Result<()> {
    let backends = maps.join("backends");
    let last = Info::try_of(&backends)?.u32(16) - 1;
    let slot = Slot { owner: KEY, ip: [247, 20, 0, 1], port: 0, flags: 0, cursor: 0 };
    write(&backends, &last.to_ne_bytes(), &slot.to_bytes())?;
    write(&maps.join("vips"), &KEY.to_bytes(), &Range { first: last, count: 1 }.to_bytes())
}
