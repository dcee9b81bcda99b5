//! Other hands change the state while `vipnat run` follows a table. Its next review repairs that.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use nix::sys::signal::Signal;
use vipnat_testkit::{Backend, Cgroup, Network, Vipnat, bpf::HOOKS};

use super::{follow::QUIET, followed::Followed};
use crate::{
    foreign::Foreign,
    scene::{DB, PORT, banner, ip, list},
};

/// The words for links that are not as vipnat left them.
const LINKS: &str = "links were removed, detached or exchanged";

/// The time until the next review, and some more.
const REVIEW: Duration = Duration::from_secs(45);

/// Two apps that `run` follows, and another vipnat whose pins are wrong for them.
struct Watched {
    followed: Followed,
    expected: String,
    stranger: Vipnat,
    strange: Cgroup,
    _backends: Vec<Backend>,
    _network: Network,
}

impl Watched {
    fn start() -> Self {
        let network = Network::new();
        let host = network.host(Ipv4Addr::new(247, 221, 80, 10));
        let services = network.host(Ipv4Addr::new(247, 221, 80, 20));
        let backend = |number: u8| {
            services.add_address(ip(number));
            Backend::start(&services, SocketAddrV4::new(ip(number), PORT), &number.to_string())
        };
        let backends = (0..3).map(backend).collect();
        let text = format!(
            "[services.shop]\nbackends = {}\n[services.blog]\nbackends = {}\n\
             [apps.shop]\ncgroup = \"@/shop\"\n[apps.blog]\ncgroup = \"@/blog\"\n\
             [apps.shop.relationships.db]\nservice = \"shop\"\nport = 5432\n\
             [apps.blog.relationships.db]\nservice = \"blog\"\n",
            list([0]),
            list([1, 2])
        );
        let followed = Followed::start(&host, &["shop", "blog"], &text);
        let expected = followed.fresh(&text);
        let (stranger, strange) = (Vipnat::new(), Cgroup::new());
        stranger.apply(&format!("[apps.shop]\ncgroup = \"{}\"\n", strange.relative()));
        let watched =
            Self { followed, expected, stranger, strange, _backends: backends, _network: network };
        watched.followed.becomes(&watched.expected, "the first table");
        watched
    }

    fn ours(&self) -> Foreign<'_> {
        Foreign { bpffs: self.followed.ours.vipnat.bpffs() }
    }

    fn theirs(&self) -> Foreign<'_> {
        Foreign { bpffs: self.stranger.bpffs() }
    }

    /// The cgroup of an app.
    fn cgroup(&self, app: &str) -> &Cgroup {
        &self.followed.ours.app(app).cgroup
    }

    /// The directory of an app's links.
    fn links(&self, app: &str) -> PathBuf {
        self.ours().links(app, self.cgroup(app))
    }

    /// The file of the name index.
    fn names(&self) -> PathBuf {
        self.followed.ours.vipnat.beside("names")
    }

    #[track_caller]
    fn connects(&self, context: &str) {
        let who =
            |app: &str| banner(&self.followed.ours.app(app).probe(&format!("tcp {DB}:{PORT}")));
        assert_eq!(who("shop"), "0", "{context}");
        let mut blog = [who("blog"), who("blog")];
        blog.sort();
        assert_eq!(blog, ["1", "2"], "{context}");
    }

    /// Damages the state, which the dump must show.
    #[track_caller]
    fn damage(&self, context: &str, damage: impl FnOnce()) {
        damage();
        assert!(self.followed.ours.dump() != self.expected, "{context} is no damage");
    }

    /// Damages the state, and checks that a review repairs it, and names it: the line has these words.
    #[track_caller]
    fn is_repaired(&mut self, context: &str, named: &str, damage: impl FnOnce(&Self)) {
        self.damage(context, || damage(self));
        self.followed.run.signal(Signal::SIGHUP);
        self.followed.becomes(&self.expected, context);
        self.connects(context);
        // The same words are not repeated.
        let is_named = |line: &str| named.is_empty() || is_repair(line) && line.contains(named);
        if !named.is_empty() && !self.followed.run.has_said(is_named) {
            self.followed.run.wait_for(is_named);
        }
    }
}

/// Whether it is the line about what other hands changed.
fn is_repair(line: &str) -> bool {
    line.starts_with("vipnat: another program changed the state, and vipnat repairs it")
}

#[test]
fn slots_entries_and_switches_that_were_overwritten_are_repaired() {
    let mut watched = Watched::start();
    // A slot: owner (app id, VIP, port, protocol), address, port, flags, cursor.
    for (what, at, bytes) in [
        ("another address", 12, &["0xf0", "0x00", "0x00", "0x01"][..]),
        ("another port", 16, &["0x01", "0x01"]),
        ("flags", 18, &["0x02", "0x00"]),
        ("retired", 18, &["0x10", "0x00"]),
        ("nothing", 0, &["0x00"; 24]),
    ] {
        watched.is_repaired(&format!("a slot: {what}"), "was changed in the map backends", |it| {
            it.ours().overwrite("backends", at, bytes);
        });
    }
    watched.is_repaired(
        "a slot: the cursor of another VIP",
        "was changed in the map backends",
        |it| {
            let (_, slot) = it.ours().element("backends");
            let other = if slot[20] == "0x00" { "0x01" } else { "0x00" };
            it.ours().overwrite("backends", 20, &[other]);
        },
    );
    for (what, bytes) in [
        ("other slots", &["0x50"][..]),
        ("no slots", &["0x00", "0x00", "0x00", "0x00", "0x00"]),
        ("too many", &["0x00", "0x00", "0x00", "0x00", "0x40"]),
    ] {
        watched.is_repaired(&format!("an entry: {what}"), "was changed in the map vips", |it| {
            it.ours().overwrite("vips", 0, bytes);
        });
    }
    watched.is_repaired("an entry that is gone", "was removed in the map vips", |it| {
        it.ours().delete_entry();
    });
    watched.is_repaired("an entry that nobody wants", "was added in the map vips", |it| {
        let (mut key, value) = it.ours().element("vips");
        key[6] = "0x99".to_owned();
        it.ours().write("vips", &format!("key {} value {}", key.join(" "), value.join(" ")));
    });
    for app in ["0", "1", "2", "99"] {
        // One of the numbers is that of the app itself.
        if watched.ours().app("shop").to_str().unwrap().contains(&format!("/{app}:")) {
            continue;
        }
        watched.is_repaired(&format!("scope {app}"), "the map scope was overwritten", |it| {
            it.ours().switch(it.cgroup("shop"), app);
        });
    }
}

#[test]
fn links_and_apps_that_were_removed_or_exchanged_are_repaired() {
    let mut watched = Watched::start();
    for (hook, other) in [("connect4", "getpeername4"), ("recvmsg6", "connect4")] {
        watched.is_repaired(&format!("without {hook}"), LINKS, |it| {
            fs::remove_file(it.links("shop").join(hook)).unwrap();
        });
        watched.is_repaired(&format!("{other} for {hook}"), LINKS, |it| {
            let links = it.links("shop");
            it.ours().exchange(&links.join(hook), &links.join(other));
        });
        watched.is_repaired(&format!("detached {hook}"), LINKS, |it| {
            it.ours().detach(&it.links("shop").join(hook));
        });
    }
    watched.is_repaired("without the links of shop", LINKS, |it| {
        fs::remove_dir_all(it.links("shop")).unwrap();
    });
    watched.is_repaired("all links of shop detached", LINKS, |it| {
        for (hook, _) in HOOKS {
            it.ours().detach(&it.links("shop").join(hook));
        }
    });
    watched.is_repaired("without shop", "the directory of app \"shop\" was removed", |it| {
        fs::remove_dir_all(it.ours().app("shop")).unwrap();
    });
    watched.is_repaired("without apps", "the directory of app \"blog\" was removed", |it| {
        fs::remove_dir_all(it.ours().bpffs.join("apps")).unwrap();
    });
    watched.is_repaired(
        "shop by another number",
        "the directory of app \"shop\" was removed",
        |it| {
            let app = it.ours().app("shop");
            fs::rename(&app, app.with_file_name("902:shop")).unwrap();
        },
    );
    watched.is_repaired("an app that nobody wants", "a directory of app \"news\" was made", |it| {
        fs::create_dir(it.ours().bpffs.join("apps/903:news")).unwrap();
    });
    watched.is_repaired("the links of shop in the directory of blog", LINKS, |it| {
        let links = it.links("shop");
        fs::rename(&links, it.ours().app("blog").join(links.file_name().unwrap())).unwrap();
    });
}

#[test]
fn programs_maps_and_names_that_were_removed_or_exchanged_are_repaired() {
    let mut watched = Watched::start();
    let programs = watched.ours().bpffs.join("progs");
    watched.is_repaired("without connect4", "the pin of program connect4 was removed", |_| {
        fs::remove_file(programs.join("connect4")).unwrap();
    });
    watched.is_repaired(
        "connect6 for connect4",
        "the pin of program connect4 leads to another object",
        |it| {
            it.ours().exchange(&programs.join("connect4"), &programs.join("connect6"));
        },
    );
    watched.is_repaired("without programs", "the pin of program sendmsg4 was removed", |_| {
        fs::remove_dir_all(&programs).unwrap();
    });
    for map in ["vips", "backends", "cursors", "scope", "conns"] {
        watched.is_repaired(
            &format!("without {map}"),
            &format!("the pin of map {map} was removed"),
            |it| {
                fs::remove_file(it.ours().map(map)).unwrap();
            },
        );
    }
    for map in ["vips", "backends", "scope"] {
        watched.is_repaired(
            &format!("another {map}"),
            &format!("the pin of map {map} leads to another object"),
            |it| {
                it.ours().exchange(&it.ours().map(map), &it.theirs().map(map));
            },
        );
    }
    watched.is_repaired("without maps", "", |it| {
        fs::remove_dir_all(it.ours().bpffs.join("maps")).unwrap();
    });
    watched.is_repaired("without layout", "the map layout was changed", |it| {
        fs::remove_file(it.ours().map("layout")).unwrap();
    });
    watched.is_repaired("of another build", "the map layout was changed", |it| {
        it.ours().write("layout", "key 0 0 0 0 value 4 0 0 0 1 2 3 4 2 0 0 0");
    });
    watched.is_repaired("a change that was interrupted", "", |it| {
        fs::create_dir(it.ours().bpffs.join("maps/changing")).unwrap();
    });
    watched.is_repaired("without anything", "the state was removed", |it| {
        fs::remove_dir_all(it.ours().bpffs).unwrap();
    });
    watched.is_repaired(
        "without names",
        "the list of names in /run/vipnat was changed or removed",
        |it| fs::remove_file(it.names()).unwrap(),
    );
    watched.is_repaired(
        "with other names",
        "the list of names in /run/vipnat was changed or removed",
        |it| {
            fs::write(it.names(), "shop 169.254.37.209 cache shop\n").unwrap();
        },
    );
    watched.is_repaired(
        "without text in the names",
        "the list of names in /run/vipnat was changed or removed",
        |it| fs::write(it.names(), "").unwrap(),
    );
    drop(watched.strange);
}

/// It once took two reviews: the first left the slot to an app that does not exist.
#[test]
fn a_slot_with_another_owner_is_repaired_by_one_review() {
    let mut watched = Watched::start();
    watched.is_repaired("another owner", "was changed in the map backends", |it| {
        it.ours().overwrite("backends", 0, &["0x63"]);
    });
}

/// `run` once only gave the advice to flush, which it refuses.
#[test]
fn an_entry_that_leads_out_of_the_map_is_repaired() {
    let mut watched = Watched::start();
    watched.is_repaired("an entry: far out", "holds what vipnat never writes", |it| {
        it.ours().overwrite("vips", 0, &["0x00", "0x00", "0x10", "0x00"]);
    });
}

#[test]
fn links_and_switches_that_others_changed_are_named() {
    let mut watched = Watched::start();
    watched.is_repaired("a switch", "shop", |it| {
        it.ours().switch(it.cgroup("shop"), "0");
    });
    let mut watched = Watched::start();
    watched.is_repaired("a detached link", "shop", |it| {
        it.ours().detach(&it.links("shop").join("connect4"));
    });
    let mut watched = Watched::start();
    watched.is_repaired("a link that was removed", "shop", |it| {
        fs::remove_file(it.links("shop").join("connect4")).unwrap();
    });
}

#[test]
fn maps_that_others_removed_are_named() {
    let mut watched = Watched::start();
    watched.is_repaired("without maps", "the map", |it| {
        fs::remove_dir_all(it.ours().bpffs.join("maps")).unwrap();
    });
}

#[test]
fn a_repair_is_named_once_and_counted() {
    let mut watched = Watched::start();
    let Watched { followed, expected, .. } = &mut watched;
    let bpffs = followed.ours.vipnat.bpffs().to_owned();
    let ours = Foreign { bpffs: &bpffs };
    for count in ["(once so far)", "(2 times so far)"] {
        if count == "(once so far)" {
            ours.overwrite("backends", 12, &["0xf0", "0x00", "0x00", "0x01"]);
        } else {
            ours.delete_entry();
        }
        followed.run.signal(Signal::SIGHUP);
        followed.run.wait_for(|line| is_repair(line) && line.contains(count));
        followed.becomes(expected, count);
        followed.run.says_meanwhile(QUIET);
        followed.run.signal(Signal::SIGHUP);
        assert_eq!(followed.run.says_meanwhile(QUIET), [""; 0], "{count}");
    }
}

/// All other tests ask for a review by SIGHUP.
#[test]
fn a_review_comes_by_itself() {
    let watched = Watched::start();
    let ours = watched.ours();
    watched.damage("a slot", || ours.overwrite("backends", 12, &["0xf0", "0x00", "0x00", "0x01"]));
    watched.damage("an entry", || ours.delete_entry());
    watched.damage("a link", || ours.detach(&watched.links("blog").join("connect4")));
    watched.damage("names", || fs::remove_file(watched.names()).unwrap());
    watched.damage("a program", || fs::remove_file(ours.bpffs.join("progs/connect4")).unwrap());
    watched.followed.becomes_within(REVIEW, &watched.expected, "after a review");
    watched.connects("after a review");
}
