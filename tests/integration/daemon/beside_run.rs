//! Commands beside `vipnat run`. Its next change leaves the state of a full apply of its table, and no connect
//! goes astray meanwhile.

use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
};

use vipnat_common::abi::capacity;
use vipnat_testkit::{Backend, Load, Network, Tally, faults, outcome, program};

use super::followed::Followed;
use crate::scene::{DB, PORT, banner, ip, list};

/// The apps, and the number of the first backend of each. A backend is named after its app.
const APPS: [(&str, u8); 2] = [("shop", 0), ("blog", 10)];

/// Builds of vipnat, as [`Vipnat::command_of`](vipnat_testkit::Vipnat::command_of) names them.
const OTHER_BUILDS: [&str; 2] = ["other-build", "other-layout"];

/// Two apps that connect all the time, and the `run` that gives them their backends.
struct Beside {
    loads: Vec<Load>,
    followed: Followed,
    _backends: Vec<Backend>,
    _network: Network,
}

/// The table that `run` follows: the number of the backend of each app, and more lines.
fn table(shop: u8, blog: u8, more: &str) -> String {
    let app = |(name, first): (&str, u8), backend: u8| {
        format!(
            "[services.{name}]\nbackends = {}\n[apps.{name}]\ncgroup = \"@/{name}\"\n\
             [apps.{name}.relationships.db]\nservice = \"{name}\"\n",
            list([first + backend])
        )
    };
    app(APPS[0], shop) + &app(APPS[1], blog) + more
}

impl Beside {
    /// Follows `table(0, 0, more)`.
    fn start(more: &str) -> Self {
        let network = Network::new();
        let host = network.host(Ipv4Addr::new(247, 221, 80, 10));
        let services = network.host(Ipv4Addr::new(247, 221, 80, 20));
        let mut backends = Vec::new();
        for (app, first) in APPS {
            for number in 0..3 {
                services.add_address(ip(first + number));
                let address = SocketAddrV4::new(ip(first + number), PORT);
                backends.push(Backend::start(&services, address, &format!("{app}-{number}")));
            }
        }
        let cgroups = ["shop", "blog", "hand", "p-1"];
        let followed = Followed::start(&host, &cgroups, &table(0, 0, more));
        let loads = APPS.map(|(name, _)| {
            let mut load = followed.ours.app(name).command(program("load"));
            load.args(["--expect", name, "--tcp", "1", "--udp", "1"]).arg(format!("{DB}:{PORT}"));
            Load::start(load)
        });
        Self { loads: loads.into(), followed, _backends: backends, _network: network }
    }

    /// Runs a command of a build on the state, as if no `run` managed it. Else, some commands refuse that.
    fn command(&self, build: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) {
        let vipnat = &self.followed.ours.vipnat;
        let _ = fs::remove_file(vipnat.beside("run"));
        let mut command = match build {
            "vipnat" => vipnat.command(arguments),
            other => vipnat.command_of(other, arguments),
        };
        let done = outcome(&mut command);
        assert!(done.status.success(), "{command:?}: {done}");
    }

    /// A build applies a table, beside the `run` that follows another one.
    fn apply(&self, build: &str, text: &str) {
        let ours = &self.followed.ours;
        let file = ours.vipnat.file("other.toml", &ours.table(text));
        self.command(build, ["apply".as_ref(), file.as_os_str()]);
    }

    /// What answers in a cgroup.
    fn who(&self, cgroup: &str) -> String {
        banner(&self.followed.ours.app(cgroup).probe(&format!("tcp {DB}:{PORT}")))
    }

    /// The tallies of both apps.
    fn stop(self) -> [Tally; 2] {
        let Self { loads, .. } = self;
        let tallies: Vec<_> = loads.into_iter().map(Load::stop).collect();
        tallies.try_into().expect("two loads")
    }

    /// Ends it, and checks that each connect reached a backend of its app.
    fn was_flawless(self) {
        self.stop().iter().for_each(Tally::assert_flawless);
    }

    /// The same for an app that the state did not have for a while.
    fn was_flawless_but_for_blog(self) {
        let [shop, blog] = self.stop();
        shop.assert_flawless();
        assert_eq!(blog.crossed, 0, "{blog:#?}");
    }
}

#[test]
fn a_cgroup_attached_by_hand_stays_and_follows() {
    let beside = Beside::start("");
    let Beside { followed, .. } = &beside;
    let attach = ["attach", "--app", "blog", "--cgroup"];
    let ours = followed.ours.app("hand").cgroup.relative();
    followed.ours.vipnat.ok(attach.into_iter().chain([ours]));
    assert_eq!(beside.who("hand"), "blog-0");
    for (shop, blog) in [(1, 0), (1, 1), (2, 2)] {
        let text = table(shop, blog, "");
        followed.fresh(&text);
        let other = followed.other.app("hand").cgroup.relative();
        followed.other.vipnat.ok(attach.into_iter().chain([other]));
        followed.change(&text);
        followed.becomes(&followed.other.dump(), "after attach");
        assert_eq!(beside.who("hand"), format!("blog-{blog}"));
    }
    beside.was_flawless();
}

#[test]
fn a_cgroup_that_attach_took_from_a_pattern_stays_with_its_app() {
    let pattern =
        "[apps.news]\ncgroup = \"@/p-*\"\n[apps.news.relationships.db]\nservice = \"shop\"\n";
    let beside = Beside::start(pattern);
    let Beside { followed, .. } = &beside;
    assert_eq!(beside.who("p-1"), "shop-0");
    let attach = |place: &super::followed::Place| {
        let cgroup = place.app("p-1").cgroup.relative();
        let attached = place.vipnat.ok(["attach", "--app", "blog", "--cgroup", cgroup]);
        assert!(attached.contains("which the table gave to news"), "{attached}");
    };
    attach(&followed.ours);
    assert_eq!(beside.who("p-1"), "blog-0");
    for (shop, blog) in [(1, 0), (1, 1)] {
        let text = table(shop, blog, pattern);
        followed.fresh(&text);
        attach(&followed.other);
        followed.change(&text);
        followed.becomes(&followed.other.dump(), "after attach");
        assert_eq!(beside.who("p-1"), format!("blog-{blog}"));
    }
    beside.was_flawless();
}

#[test]
fn list_explains_and_exec_connects_while_the_table_changes() {
    let beside = Beside::start("");
    let Beside { followed, .. } = &beside;
    let vipnat = &followed.ours.vipnat;
    for round in 0..15 {
        let backend = round % 3;
        followed.change(&table(backend, backend, ""));
        let listed: serde_json::Value =
            serde_json::from_str(&vipnat.ok(["list", "--json"])).unwrap();
        let apps = listed["apps"].as_array().unwrap();
        let names: Vec<_> = apps.iter().map(|app| app["app"].as_str().unwrap()).collect();
        assert_eq!(names, ["blog", "shop"], "{listed}");
        let shown = apps.iter().flat_map(|app| app["relationships"].as_array().unwrap());
        assert!(shown.clone().count() == 2, "{listed}");
        assert!(shown.clone().all(|it| it["relationship"] == "db"), "{listed}");
        assert!(shown.clone().all(|it| it["backends"].as_array().unwrap().len() == 1), "{listed}");
        vipnat.ok(["exec", "--app", "shop", "--", "true"]);
    }
    followed.follows(&table(1, 2, ""), "after list and exec");
    beside.was_flawless();
}

#[test]
fn an_app_that_was_flushed_is_back_after_a_change_of_another_one() {
    let beside = Beside::start("");
    beside.command("vipnat", ["flush", "--app", "blog"]);
    beside.followed.follows(&table(1, 0, ""), "after flush --app");
    assert_eq!(beside.who("blog"), "blog-0");
    beside.was_flawless_but_for_blog();
}

#[test]
fn everything_that_was_flushed_is_back_after_a_change() {
    let beside = Beside::start("");
    beside.command("vipnat", ["flush"]);
    beside.followed.follows(&table(1, 0, ""), "after flush");
    assert_eq!([beside.who("shop"), beside.who("blog")], ["shop-1", "blog-0"]);
    for tally in beside.stop() {
        assert_eq!(tally.crossed, 0, "{tally:#?}");
    }
}

#[test]
fn another_table_that_was_applied_goes_with_the_next_change() {
    let news = "[apps.news]\ncgroup = \"@/hand\"\n[apps.news.relationships.db]\nservice = \"shop\"\n\
                port = 5432\n[apps.blog.relationships.search]\nservice = \"shop\"\n";
    let without_blog = table(2, 0, "").split("[services.blog]").next().unwrap().to_owned();
    for (name, other) in [
        ("another backend", table(0, 1, "")),
        ("another app", table(0, 0, news)),
        ("another app in its cgroup", table(0, 0, news).replace("@/hand", "@/p-1")),
        ("limits", table(0, 0, "protocol = \"tcp\"\n") + news),
        ("fewer apps", without_blog),
    ] {
        let beside = Beside::start("");
        beside.apply("vipnat", &other);
        beside.followed.follows(&table(1, 0, ""), name);
        assert_eq!([beside.who("shop"), beside.who("blog")], ["shop-1", "blog-0"], "{name}");
        // Without `udp`, or without the app, its connects fail for a while.
        match name {
            "fewer apps" | "limits" => beside.was_flawless_but_for_blog(),
            _ => beside.was_flawless(),
        }
    }
}

#[test]
fn apps_that_another_table_exchanged_are_exchanged_back() {
    let beside = Beside::start("");
    let Beside { followed, .. } = &beside;
    let exchanged = table(0, 0, "").replace("@/shop", "@/x").replace("@/blog", "@/shop");
    beside.apply("vipnat", &exchanged.replace("@/x", "@/blog"));
    assert_eq!([beside.who("shop"), beside.who("blog")], ["blog-0", "shop-0"]);
    followed.follows(&table(1, 0, ""), "exchanged");
    assert_eq!([beside.who("shop"), beside.who("blog")], ["shop-1", "blog-0"]);
    beside.stop();
}

#[test]
fn maps_that_another_table_enlarged_are_those_of_the_next_change() {
    let beside = Beside::start("");
    let mut large = table(0, 0, "");
    for n in 0..capacity::VIPS {
        let [.., c, d] = (0x0100 + n).to_be_bytes();
        large += &format!(
            "[apps.blog.relationships.more{n}]\nservice = \"blog\"\nvip = \"169.254.{c}.{d}\"\n"
        );
    }
    beside.apply("vipnat", &large);
    for backend in [1, 2] {
        beside.followed.follows(&table(backend, 0, ""), "after larger maps");
        assert_eq!(beside.who("shop"), format!("shop-{backend}"));
    }
    beside.was_flawless();
}

#[test]
fn the_state_that_another_build_took_over_is_taken_back() {
    for build in OTHER_BUILDS {
        let beside = Beside::start("");
        beside.apply(build, &table(0, 1, ""));
        for backend in [1, 2] {
            beside.followed.follows(&table(backend, 0, ""), build);
            assert_eq!(beside.who("shop"), format!("shop-{backend}"), "{build}");
        }
        beside.was_flawless();
    }
}

/// Such an apply leaves slots and entries of its table.
#[test]
fn an_apply_that_was_killed_is_completed_by_the_next_change() {
    let beside = Beside::start("");
    let Beside { followed, .. } = &beside;
    let ours = &followed.ours;
    let more = "[apps.blog.relationships.search]\nservice = \"shop\"\n";
    let file = ours.vipnat.file("other.toml", &ours.table(&table(0, 1, more)));
    let apply = || {
        let _ = fs::remove_file(ours.vipnat.beside("run"));
        ours.vipnat.command(["apply".as_ref(), file.as_os_str()])
    };
    // The operations are those of the same change before.
    let traced = faults::traced(&apply());
    assert!(traced.outcome.status.success(), "{}", traced.outcome);
    followed.follows(&table(1, 0, ""), "after another apply");
    let writes = traced.operations.iter().filter(|operation| operation.what.starts_with("bpf"));
    for (round, operation) in writes.enumerate() {
        faults::killed(&apply(), operation);
        let backend = if round % 2 == 0 { 2 } else { 1 };
        followed.follows(&table(backend, 0, ""), &format!("killed before {operation}"));
    }
    beside.was_flawless();
}
