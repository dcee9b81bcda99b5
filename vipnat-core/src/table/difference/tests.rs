//! A difference has the VIPs whose relationships differ, and no others.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::table::random;

fn parse(text: &str) -> Table {
    Table::parse(text.as_bytes(), "table", Path::new("/sys/fs/cgroup")).unwrap()
}

fn vip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(169, 254, 1, last)
}

#[test]
fn only_what_differs_is_told() {
    let old = parse(
        r#"
        [services]
        same = { backends = ["240.0.0.1"] }
        moved = { backends = ["240.0.0.2"] }
        gone = { backends = [] }
        [apps.blog.relationships]
        db = { service = "moved", vip = "169.254.1.1" }
        [apps.old]
        cgroup = "old"
        [apps.shop]
        cgroup = "shop"
        [apps.shop.relationships]
        a = { service = "same", vip = "169.254.1.1" }
        b = { service = "same", vip = "169.254.1.2" }
        c = [
            { service = "same", vip = "169.254.1.3" },
            { service = "same", vip = "169.254.1.4" },
            { service = "gone", vip = "169.254.1.5" },
        ]
        "#,
    );
    let new = parse(
        r#"
        [services]
        same = { backends = ["240.0.0.1"] }
        moved = { backends = ["240.0.0.3"] }
        new = { backends = [] }
        [apps.blog.relationships]
        db = { service = "moved", vip = "169.254.1.1", instance-ips = false, endpoint = { a = 1 } }
        [apps.new.relationships]
        db = { service = "new", vip = "169.254.1.9" }
        [apps.shop]
        cgroup = "other"
        [apps.shop.relationships]
        b = { service = "same", vip = "169.254.1.2" }
        bb = { service = "new", vip = "169.254.1.7" }
        c = [
            { service = "same", vip = "169.254.1.4" },
            { service = "same", vip = "169.254.1.3" },
            { service = "new", vip = "169.254.1.5" },
        ]
        "#,
    );
    let Difference { services, apps, policies: _ } = Difference::between(&old, &new);
    assert_eq!(services, ["gone", "moved", "new"].map(str::to_owned).into());
    let told = |name: &str| {
        let AppDifference { kind, cgroup, vips, left: _ } = &apps[name];
        (*kind, *cgroup, vips.iter().copied().collect::<Vec<_>>())
    };
    assert_eq!(apps.keys().collect::<Vec<_>>(), ["new", "old", "shop"]);
    assert_eq!(told("new"), (DifferenceKind::New, false, vec![vip(9)]));
    assert_eq!(told("old"), (DifferenceKind::Removed, true, vec![]));
    assert_eq!(told("shop"), (DifferenceKind::Changed, true, vec![vip(1), vip(5), vip(7)]));
}

/// The part of an app that the kernel and the names of VIPs follow from.
type Told<'a> = BTreeMap<Ipv4Addr, Vec<(&'a str, &'a str, Option<u16>)>>;

fn told(app: Option<&App>) -> Told<'_> {
    let mut told = Told::new();
    for (name, of) in app.into_iter().flat_map(|app| app.relationships.iter()) {
        let port = of.port.map(std::num::NonZero::get);
        told.entry(of.vip).or_default().push((name, &of.service, port));
    }
    told
}

proptest! {
    #[test]
    fn the_vips_of_a_difference_are_those_whose_relationships_differ(
        old in random::table(), new in random::table(),
    ) {
        let difference = Difference::between(&old, &new);
        for name in old.services.keys().chain(new.services.keys()) {
            let differs = old.services.get(name) != new.services.get(name);
            prop_assert_eq!(difference.services.contains(name), differs);
        }
        for name in old.apps.keys().chain(new.apps.keys()) {
            let (old, new) = (old.apps.get(name), new.apps.get(name));
            let (before, after) = (told(old), told(new));
            let all = before.keys().chain(after.keys()).copied();
            let vips: BTreeSet<_> = all.filter(|vip| before.get(vip) != after.get(vip)).collect();
            let cgroup = |app: Option<&App>| app.and_then(|app| app.cgroup.clone());
            let cgroup = cgroup(old) != cgroup(new);
            let differs = !vips.is_empty() || cgroup || old.is_some() != new.is_some();
            let found = difference.apps.get(name);
            prop_assert_eq!(found.is_some(), differs);
            if let Some(found) = found {
                prop_assert_eq!(&found.vips, &vips);
                prop_assert_eq!(found.cgroup, cgroup);
            }
        }
        prop_assert!(Difference::between(&new, &new).is_empty());
    }
}
