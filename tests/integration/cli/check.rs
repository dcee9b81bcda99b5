//! Remarks of `vipnat check` on valid tables.

use vipnat_testkit::{Outcome, Vipnat, outcome};

fn check(vipnat: &Vipnat, table: &str) -> Outcome {
    let file = vipnat.table(table);
    outcome(&mut vipnat.command(["check".as_ref(), file.as_os_str()]))
}

#[test]
fn check_names_the_relationships_of_an_app_that_share_a_backend() {
    let vipnat = Vipnat::new();
    let table = "[services.one]\nbackends = [\"247.0.0.1\", \"247.0.0.2\"]\n\
                 [services.two]\nbackends = [\"247.0.0.2\"]\n\
                 [apps.shop]\ncgroup = \"shop\"\n\
                 [apps.shop.relationships]\ndb.service = \"one\"\ncache.service = \"two\"\n\
                 [apps.blog]\ncgroup = \"blog\"\nrelationships.db.service = \"one\"\n";
    let remarked = check(&vipnat, table);
    assert_eq!(remarked.code(), Some(0), "{remarked}");
    assert!(
        remarked.stdout.ends_with(": good: 2 services, 2 apps, 3 relationships\n"),
        "{remarked}"
    );
    let lines: Vec<_> = remarked.stderr.lines().collect();
    let [shared, advice] = lines[..] else { panic!("{remarked}") };
    let expected = ": app shop: relationships cache, db lead to backend 247.0.0.2";
    assert!(shared.starts_with("vipnat: ") && shared.ends_with(expected), "{remarked}");
    assert!(advice.contains("docs/semantics.md"), "{remarked}");

    let apart = check(&vipnat, &table.replace("cache.service = \"two\"", ""));
    assert_eq!((apart.code(), apart.stderr.as_str()), (Some(0), ""), "{apart}");
}

#[test]
fn a_table_in_which_every_app_shares_backends_is_told_in_few_lines() {
    let vipnat = Vipnat::new();
    let mut table = "[services.one]\nbackends = [\"247.0.0.1\"]\n".to_owned();
    for app in 0..1000 {
        table += &format!("[apps.a{app}]\ncgroup = \"a{app}\"\n");
        for name in 0..30 {
            table += &format!("relationships.r{name}.service = \"one\"\n");
        }
    }
    let remarked = check(&vipnat, &table);
    assert_eq!(remarked.code(), Some(0), "{remarked}");
    assert_eq!(remarked.stderr.lines().count(), 7, "{}", remarked.stderr);
    assert!(remarked.stderr.contains(": 995 more groups of relationships"), "{}", remarked.stderr);
    assert!(remarked.stderr.lines().all(|line| line.len() < 300), "{}", remarked.stderr);
}
