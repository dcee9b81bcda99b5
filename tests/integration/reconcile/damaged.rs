//! Pinned state that root removed, replaced or overwrote. `apply` repairs it, or refuses and names the
//! remedy.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use vipnat_testkit::{App, Vipnat, bpf::HOOKS, outcome};

use crate::{
    foreign::Foreign,
    scene::{DB, PORT, Scene, banner, list, table},
};

const MAPS: [&str; 8] =
    ["backends", "conns", "counters", "cursors", "layout", "scope", "udp_flows", "vips"];

/// Two apps of one vipnat, and another vipnat elsewhere. Its pins are wrong for the first one.
struct Damaged {
    scene: Scene,
    blog: App,
    other: Scene,
}

impl Damaged {
    fn new() -> Self {
        let scene = Scene::new(3);
        let blog = App::new(scene.app.host.clone());
        let other = Scene::new(0);
        other.vipnat.apply(&other.table("[]"));
        Self { scene, blog, other }
    }

    fn table(&self) -> String {
        let [shop, blog] = [&self.scene.app, &self.blog].map(|app| app.cgroup.relative());
        table(&[("shop", shop, &list([0]), "port = 5432"), ("blog", blog, &list([1, 2]), "")])
    }

    fn vipnat(&self) -> &Vipnat {
        &self.scene.vipnat
    }

    fn bpffs(&self) -> &Path {
        self.vipnat().bpffs()
    }

    fn foreign(&self) -> Foreign<'_> {
        Foreign { bpffs: self.bpffs() }
    }

    /// The directory of shop, and the directory of its links.
    fn shop(&self) -> (PathBuf, PathBuf) {
        (self.foreign().app("shop"), self.foreign().links("shop", &self.scene.app.cgroup))
    }

    fn connects(&self, context: &str) {
        let probe = format!("tcp {DB}:{PORT}");
        let shop = self.scene.app.probe(&probe);
        assert_eq!((shop.banner(), shop.peer()), ("0", &*format!("{DB}:{PORT}")), "{context}");
        let mut blog: Vec<_> = (0..2).map(|_| banner(&self.blog.probe(&probe))).collect();
        blog.sort();
        assert_eq!(blog, ["1", "2"], "{context}");
    }

    /// Checks that `apply` mends a damage, or that the remedy in its message does.
    fn is_mended(&self, context: &str, damage: impl FnOnce()) {
        let vipnat = self.vipnat();
        vipnat.ok(["flush"]);
        vipnat.apply(&self.table());
        self.connects(context);
        damage();
        let file = vipnat.table(&self.table());
        let apply = || vipnat.run(["apply".as_ref(), file.as_os_str()]);
        let mut applied = apply();
        println!("{context}: {} {}", applied.stdout.trim_end(), applied.stderr.trim_end());
        let mut seen = applied.stdout != "nothing to change\n";
        if applied.code() != Some(0) {
            seen = true;
            // Take the step that the message names.
            if applied.stderr.contains("`vipnat flush`") {
                vipnat.ok(["flush"]);
            } else {
                let words = applied.stderr.split([' ', ';', ',']);
                let named = words.map(Path::new).filter(|path| path.starts_with(self.bpffs()));
                let named = named.filter(|path| *path != self.bpffs()).last();
                let named = named.unwrap_or_else(|| panic!("{context}: {applied}"));
                assert!(applied.stderr.contains("remove"), "{context}: {applied}");
                if named.is_dir() { fs::remove_dir(named) } else { fs::remove_file(named) }
                    .unwrap();
            }
            applied = apply();
        }
        assert_eq!(applied.code(), Some(0), "{context}: {applied}");
        assert!(seen, "{context} was not seen");
        self.connects(context);
        assert_eq!(apply().stdout, "nothing to change\n", "{context}");
        let apps = fs::read_dir(self.bpffs().join("apps")).unwrap().count();
        assert_eq!(apps, 2, "{context}");
    }
}

#[test]
fn pins_that_were_removed_or_exchanged() {
    let damaged = Damaged::new();
    let ours = damaged.bpffs();
    let theirs = damaged.other.vipnat.bpffs();
    for map in MAPS {
        let pin = ours.join("maps").join(map);
        damaged.is_mended(&format!("without {map}"), || fs::remove_file(&pin).unwrap());
        if map == "layout" {
            // Another layout map has the same content.
            continue;
        }
        damaged.is_mended(&format!("another {map}"), || {
            damaged.foreign().exchange(&pin, &theirs.join("maps").join(map));
        });
        let wrong = if map == "vips" { "scope" } else { "vips" };
        damaged.is_mended(&format!("{wrong} for {map}"), || {
            damaged.foreign().exchange(&pin, &theirs.join("maps").join(wrong));
        });
    }
    for (hook, _) in HOOKS {
        let pin = ours.join("progs").join(hook);
        damaged.is_mended(&format!("without {hook}"), || fs::remove_file(&pin).unwrap());
        damaged.is_mended(&format!("another {hook}"), || {
            damaged.foreign().exchange(&pin, &theirs.join("progs").join(hook));
        });
        let next = if hook == "connect4" { "connect6" } else { "connect4" };
        damaged.is_mended(&format!("{next} for {hook}"), || {
            damaged.foreign().exchange(&pin, &ours.join("progs").join(next));
        });
    }
    damaged.is_mended("a map for a program", || {
        damaged.foreign().exchange(&ours.join("progs/connect4"), &ours.join("maps/vips"));
    });
}

#[test]
fn links_that_were_removed_or_exchanged() {
    let damaged = Damaged::new();
    for (hook, _) in HOOKS {
        damaged.is_mended(&format!("without {hook}"), || {
            fs::remove_file(damaged.shop().1.join(hook)).unwrap();
        });
        let next = if hook == "connect4" { "getpeername4" } else { "connect4" };
        damaged.is_mended(&format!("{next} for {hook}"), || {
            let (_, links) = damaged.shop();
            damaged.foreign().exchange(&links.join(hook), &links.join(next));
        });
        damaged.is_mended(&format!("a map for {hook}"), || {
            let maps = damaged.bpffs().join("maps");
            damaged.foreign().exchange(&damaged.shop().1.join(hook), &maps.join("vips"));
        });
    }
}

#[test]
fn directories_that_were_removed_or_doubled() {
    let damaged = Damaged::new();
    let ours = damaged.bpffs();
    for directory in ["progs", "apps", "maps"] {
        damaged.is_mended(&format!("without {directory}"), || {
            fs::remove_dir_all(ours.join(directory)).unwrap();
        });
    }
    damaged.is_mended("without shop", || fs::remove_dir_all(damaged.shop().0).unwrap());
    damaged.is_mended("without the links of shop", || {
        fs::remove_dir_all(damaged.shop().1).unwrap();
    });
    // The cases: two app ids of one app, two apps with one app id, and other names for the same app.
    for name in ["900:shop", "1:shop", "2:shop", "1:blog", "2:blog", "1:%73hop", "0:shop", "7:else"]
    {
        let directory = ours.join("apps").join(name);
        damaged.is_mended(name, || {
            if !directory.exists() {
                fs::create_dir(&directory).unwrap();
            } else {
                fs::rename(&directory, directory.with_file_name("901:shop")).unwrap();
                fs::create_dir(&directory).unwrap();
            }
        });
    }
    damaged.is_mended("shop by another number", || {
        let (app, _) = damaged.shop();
        fs::rename(&app, app.with_file_name("902:shop")).unwrap();
    });
    damaged.is_mended("shop with the links in a second directory", || {
        let (app, links) = damaged.shop();
        let second = app.with_file_name("903:shop");
        fs::create_dir(&second).unwrap();
        fs::rename(&links, second.join(links.file_name().unwrap())).unwrap();
    });
    damaged.is_mended("shop with all links twice", || {
        let (app, links) = damaged.shop();
        let second = app.with_file_name("904:shop").join(links.file_name().unwrap());
        fs::create_dir_all(&second).unwrap();
        for (hook, _) in HOOKS {
            damaged.foreign().exchange(&second.join(hook), &links.join(hook));
        }
    });
    for empty in [true, false] {
        damaged.is_mended("a second directory of its cgroup", || {
            let (app, links) = damaged.shop();
            let by_hand = app.join(format!("+{}", links.file_name().unwrap().to_str().unwrap()));
            if !empty {
                fs::rename(&links, &by_hand).unwrap();
            }
            fs::create_dir(if empty { &by_hand } else { &links }).unwrap();
        });
    }
    damaged.is_mended("foreign things among the apps", || {
        fs::create_dir(ours.join("apps/strange")).unwrap();
    });
    damaged.is_mended("foreign things among the cgroups of an app", || {
        fs::create_dir(damaged.shop().0.join("strange")).unwrap();
    });
    damaged.is_mended("a map for an app", || {
        damaged.foreign().exchange(&ours.join("apps/905:shop"), &ours.join("maps/vips"));
    });
    damaged.is_mended("a map for a cgroup", || {
        damaged.foreign().exchange(&damaged.shop().0.join("1"), &ours.join("maps/vips"));
    });
}

#[test]
fn values_that_were_overwritten() {
    let damaged = Damaged::new();
    // A slot: owner (app id, VIP, port, protocol), address, port, flags, cursor.
    for (what, at, bytes) in [
        ("a cursor that does not exist", 20, &["0xff", "0xff", "0xff", "0x7f"][..]),
        ("a cursor far out", 20, &["0x00", "0x10", "0x00", "0x00"]),
        ("another owner", 0, &["0x63"]),
        ("another address", 12, &["0xf0", "0x00", "0x00", "0x01"]),
        ("another port", 16, &["0x01", "0x01"]),
        ("flags", 18, &["0x02", "0x00"]),
        ("flags that there are not", 18, &["0x00", "0x80"]),
        ("retired", 18, &["0x10", "0x00"]),
        ("nothing", 0, &["0x00"; 24]),
    ] {
        damaged.is_mended(&format!("a slot: {what}"), || {
            damaged.foreign().overwrite("backends", at, bytes);
        });
    }
    for (what, bytes) in [
        ("far out", &["0xff", "0xff", "0xff", "0xff", "0x01"][..]),
        ("no slots", &["0x00", "0x00", "0x00", "0x00", "0x00"]),
        ("too many", &["0x00", "0x00", "0x00", "0x00", "0x40"]),
    ] {
        damaged.is_mended(&format!("an entry: {what}"), || {
            damaged.foreign().overwrite("vips", 0, bytes);
        });
    }
    damaged.is_mended("an entry that is gone", || damaged.foreign().delete_entry());
    for app in ["0", "1", "99"] {
        damaged.is_mended(&format!("scope {app}"), || {
            damaged.foreign().switch(&damaged.scene.app.cgroup, app);
        });
    }
    for (what, value) in [
        ("another version", "9 0 0 0 1 2 3 4 2 0 0 0"),
        ("another build", "3 0 0 0 1 2 3 4 2 0 0 0"),
        ("nothing", "0 0 0 0 0 0 0 0 0 0 0 0"),
    ] {
        damaged.is_mended(&format!("layout: {what}"), || {
            damaged.foreign().write("layout", &format!("key 0 0 0 0 value {value}"));
        });
    }
}

/// Two VIPs that share a cursor take each other's turns.
#[test]
fn a_cursor_of_two_vips() {
    let damaged = Damaged::new();
    damaged.is_mended("a cursor of two", || {
        // The cursors of this test's tables are 0, 1 and so on.
        let (_, slot) = damaged.foreign().element("backends");
        let other = if slot[20] == "0x00" { "0x01" } else { "0x00" };
        damaged.foreign().overwrite("backends", 20, &[other]);
    });
}

/// An app once got app id 0, which translates nothing, and `apply` printed `+`.
#[test]
fn the_last_number_of_an_app_was_given() {
    let damaged = Damaged::new();
    let vipnat = damaged.vipnat();
    let [shop, blog] = [&damaged.scene.app, &damaged.blog].map(|app| app.cgroup.relative());
    for last in ["255 255 255 255", "254 255 255 255", "0 0 0 0"] {
        vipnat.ok(["flush"]);
        vipnat.apply(&table(&[("shop", shop, &list([0]), "port = 5432")]));
        let mut layout = Command::new("bpftool");
        layout.args(["--json", "map", "lookup", "pinned"]).arg(damaged.bpffs().join("maps/layout"));
        let layout: serde_json::Value =
            serde_json::from_str(&outcome(layout.args("key 0 0 0 0".split(' '))).stdout).unwrap();
        let value: Vec<_> =
            layout["value"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        damaged
            .foreign()
            .write("layout", &format!("key 0 0 0 0 value {} {last}", value[..8].join(" ")));
        let applied = vipnat.apply(&damaged.table());
        assert!(applied.contains(&format!("+ app blog in cgroup {blog}")), "{applied}");
        damaged.connects(last);
        assert_eq!(vipnat.apply(&damaged.table()), "nothing to change\n", "{last}");
    }
}
