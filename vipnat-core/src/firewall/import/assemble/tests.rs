//! What is recognised, what is refused, and that nothing panics.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::{
    firewall::{Packets, iptables},
    table::{Backend, Table},
};

/// Imports rules of the nat table, given without `-A`.
fn nat(rules: &[&str]) -> Import {
    let rules: String = rules.iter().map(|rule| format!("-A {rule}\n")).collect();
    import(&format!("*nat\n:OUTPUT ACCEPT [0:0]\n{rules}COMMIT\n"))
}

/// One VIP with these conditions and backends, and how they were chosen: the weights, and the notes.
fn shares(statistics: &[&str]) -> Result<(Select, Vec<u16>, Vec<String>), String> {
    let rule = |(i, statistic): (usize, &&str)| {
        let statistic = match statistic.split_once(' ') {
            Some((mode, rest)) => format!("-m statistic --mode {mode} {rest}"),
            None => String::new(),
        };
        format!("OUTPUT -d 169.254.1.1/32 -p tcp {statistic} -j DNAT --to-destination 247.0.0.{i}")
    };
    let rules: Vec<_> = statistics.iter().enumerate().map(rule).collect();
    let rules: Vec<_> = rules.iter().map(String::as_str).collect();
    let Import { services, relationships, unsupported, notes } = nat(&rules);
    if let Some(Remark { reason, .. }) = unsupported.first() {
        return Err(reason.clone());
    }
    let service = &services["vip-1-1"];
    let relationship = &relationships["vip-1-1"];
    assert_eq!(&*relationship.service, "vip-1-1");
    assert_eq!(relationship.vip, Ipv4Addr::new(169, 254, 1, 1));
    assert_eq!(relationship.protocol, Some(Protocol::Tcp));
    for (i, backend) in service.backends.iter().enumerate() {
        assert_eq!(backend.ip, Ipv4Addr::new(247, 0, 0, i as u8), "{statistics:?}");
    }
    let weights = service.backends.iter().map(|backend| backend.weight).collect();
    Ok((service.select, weights, notes.into_iter().map(|note| note.reason).collect()))
}

#[track_caller]
fn exactly(statistics: &[&str], select: Select, weights: &[u16]) {
    assert_eq!(shares(statistics), Ok((select, weights.to_vec(), Vec::new())), "{statistics:?}");
}

#[track_caller]
fn with_note(statistics: &[&str], select: Select, weights: &[u16], note: &str) {
    let (got, shares, notes) = shares(statistics).unwrap();
    assert_eq!((got, shares.as_slice()), (select, weights), "{statistics:?}");
    assert!(notes.len() == 1 && notes[0].contains(note), "{note} in {notes:?}");
}

#[test]
fn chains_that_give_even_turns_are_round_robin() {
    exactly(&[""], Select::RoundRobin, &[1]);
    exactly(&["nth --every 2 --packet 0", ""], Select::RoundRobin, &[1, 1]);
    // Old versions leave packet 0 out.
    exactly(&["nth --every 3", "nth --every 2", ""], Select::RoundRobin, &[1, 1, 1]);
    exactly(&["nth --every 2 --packet 0", "nth --every 1 --packet 0"], Select::RoundRobin, &[1, 1]);
}

#[test]
fn the_literal_chain_is_told_with_its_loss_and_taken_for_what_it_was_meant_to_be() {
    let literal = |n: usize| {
        (0..n).map(|packet| format!("nth --every {n} --packet {packet}")).collect::<Vec<_>>()
    };
    for (n, lost) in [(2, "1 of 4 connections (25 %)"), (3, "8 of 27 connections (30 %)")] {
        let rules = literal(n);
        let rules: Vec<_> = rules.iter().map(String::as_str).collect();
        with_note(&rules, Select::RoundRobin, &vec![1; n], lost);
    }
    let rules = literal(9);
    let rules: Vec<_> = rules.iter().map(String::as_str).collect();
    with_note(&rules, Select::RoundRobin, &[1; 9], "so 35 % of the connections match none");
    let rest = ["nth --every 3 --packet 0", "nth --every 3 --packet 1", ""];
    with_note(&rest, Select::RoundRobin, &[1, 1, 1], "the last one gets too much");
    let third = "random --probability 0.33333333349";
    with_note(&[third, third, third], Select::Random, &[1, 1, 1], "8 of 27 connections (30 %)");
}

#[test]
fn unequal_turns_are_weights() {
    let note = "the turns come in another order";
    with_note(&["nth --every 4 --packet 0", ""], Select::RoundRobin, &[1, 3], note);
    with_note(&["nth --every 2 --packet 1", ""], Select::RoundRobin, &[1, 1], note);
    let all =
        ["nth --every 6 --packet 0", "nth --every 5 --packet 0", "nth --every 2 --packet 0", ""];
    with_note(&all, Select::RoundRobin, &[1, 1, 2, 2], note);
}

#[test]
fn chance_is_weights() {
    exactly(&["random --probability 0.50000000000", ""], Select::Random, &[1, 1]);
    let thirds = ["random --probability 0.33333333349", "random --probability 0.50000000000", ""];
    exactly(&thirds, Select::Random, &[1, 1, 1]);
    exactly(&["random --probability 0.66666666651", ""], Select::Random, &[2, 1]);
    exactly(&["random --probability 0.99610894918", ""], Select::Random, &[256, 1]);
    let by_hand = ["random --probability 0.333", "random --probability 0.5", ""];
    with_note(&by_hand, Select::Random, &[1, 1, 1], "taken for the weights [1, 1, 1]");
    // Two equal shares of what is left, as a service with these weights has them.
    let third = "random --probability 0.33333333349";
    exactly(&[third, third, ""], Select::Random, &[3, 2, 4]);
}

#[test]
fn shares_that_no_service_has_are_refused() {
    for (statistics, reason) in [
        (&["nth --every 2 --packet 0"][..], "50 % of the connections match none of these rules"),
        (&["nth --every 3 --packet 0", "nth --every 2 --packet 0"], "33 % of the connections"),
        (&["random --probability 0.1", "random --probability 0.2"], "72 % of the connections"),
        (&["nth --every 2 --packet 0", "random --probability 0.5", ""], "nth"),
        (&["random --probability 0.0001", ""], "no weights from 1 to 256"),
        (&["random --probability 0", ""], "probability 0"),
        (&["nth --every 0 --packet 0", ""], "unknown statistic"),
        (&["random --probability 7", ""], "unknown statistic"),
        (&["chaos --probability 7", ""], "unknown statistic"),
    ] {
        let refused = shares(statistics).unwrap_err();
        assert!(refused.contains(reason), "{statistics:?}: {reason} in {refused}");
    }
}

#[test]
fn what_a_table_cannot_say_is_refused_with_line_text_reason_and_advice() {
    let dnat = "-j DNAT --to-destination 247.0.0.1";
    let vip = "-d 169.254.1.1/32";
    for (rule, reason) in [
        (format!("OUTPUT {vip} ! -p tcp {dnat}"), "a negation (`! -p tcp`)"),
        (format!("OUTPUT ! {vip} {dnat}"), "a negation"),
        (format!("OUTPUT {vip} -o eth0 {dnat}"), "an interface (`-o eth0`)"),
        (format!("OUTPUT -s 240.0.0.1/32 {vip} {dnat}"), "a source (`-s 240.0.0.1/32`)"),
        (format!("OUTPUT {vip} -m mark --mark 0x1 {dnat}"), "a match that vipnat doesn't have"),
        (format!("OUTPUT {vip} --uid-owner 33 {dnat}"), "an option that vipnat doesn't have"),
        (format!("OUTPUT {vip} -p tcp --sport 1 {dnat}"), "a source port"),
        (format!("OUTPUT {vip} -p tcp --dport 80:90 {dnat}"), "more than one port"),
        (format!("OUTPUT -d 169.254.1.0/24 {dnat}"), "a destination that is not one address"),
        (format!("OUTPUT {dnat}"), "a destination that is not one address"),
        (format!("OUTPUT -d fd00::1/128 {dnat}"), "an address that is not IPv4"),
        (format!("OUTPUT {vip} {dnat}-247.0.0.9"), "is a range of addresses or ports"),
        (format!("OUTPUT {vip} -p tcp {dnat}:80-90"), "is a range of addresses or ports"),
        (format!("OUTPUT {vip} -p tcp {dnat}:0"), "has port 0"),
        (format!("OUTPUT {vip} -j DNAT --to-destination [fd00::1]:80"), "is an IPv6 address"),
        (format!("OUTPUT {vip} -j DNAT"), "not exactly one `--to-destination`"),
        (format!("OUTPUT {vip} -j DNAT --to-destination 169.254.1.2"), "is in the range of VIPs"),
        (format!("OUTPUT {vip} -j DNAT --to-destination 224.0.0.1"), "is a multicast address"),
        (format!("OUTPUT {vip} -p tcp -j REDIRECT --to-ports 80"), "REDIRECT for addresses"),
        ("OUTPUT -d 169.254.0.0/16 -j REDIRECT".to_owned(), "REDIRECT for addresses"),
        (format!("OUTPUT ! -d 169.254.169.254/32 {dnat}"), "a destination that is not one address"),
        (format!("OUTPUT {vip} -j RETURN\n-A OUTPUT {vip} {dnat}"), "RETURN before the rule in"),
        (
            format!("OUTPUT -d 169.254.0.0/16 -p udp -j ACCEPT\n-A OUTPUT {vip} {dnat}"),
            "ACCEPT before the rule in line 4, which is for VIP 169.254.1.1",
        ),
        (format!("OUTPUT {vip} {dnat} --comment \"a"), "a quotation without an end"),
        ("OUTPUT -j".to_owned(), "an option without its value"),
    ] {
        let Import { unsupported, .. } = nat(&[&rule]);
        let shown: Vec<_> = unsupported.iter().map(Remark::to_string).collect();
        assert_eq!(shown.len(), 1, "{rule}: {shown:?}");
        let lines: Vec<_> = shown[0].lines().collect();
        assert_eq!(lines.len(), 3, "{shown:?}");
        let rule = rule.lines().next().unwrap();
        assert_eq!(lines[0], format!("3: -A {rule}"));
        assert!(lines[1].contains(reason), "{reason} in {}", lines[1]);
    }
}

#[test]
fn what_is_not_for_vips_is_passed_over() {
    let import = import(
        "# Generated by iptables-save\n*mangle\n-A OUTPUT -j MARK --set-xmark 0x1/0xff\nCOMMIT\n\
         *filter\n-A OUTPUT -d 169.254.1.1/32 -j DROP\nCOMMIT\n*nat\n:OUTPUT ACCEPT [0:0]\n\
         -A PREROUTING -d 10.0.0.1/32 -j DNAT --to-destination 10.0.0.2\n\
         -A OUTPUT -m state --state RELATED,ESTABLISHED -j ACCEPT\n\
         -A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT\n\
         [12:720] -A OUTPUT -d 169.254.1.1/32 -p icmp -j DNAT --to-destination 247.0.0.9\n\
         -A OUTPUT -d 10.0.0.0/8 -j RETURN\n\
         -A OUTPUT -j LOG --log-prefix \"to: \"\n\
         [0:0] -A OUTPUT -d 169.254.1.1/32 -m comment --comment \"-j X\" -j DNAT --to-destination 247.0.0.1\n\
         -A OUTPUT -d 169.254.1.1/32 -j DNAT --to-destination 247.0.0.2\n\
         -A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp --dport 53 -j DNAT --to-destination 127.0.0.11:999\n\
         -A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n",
    );
    assert_eq!(import.unsupported, Vec::new());
    let kept: Vec<_> = import.notes.iter().map(|note| (note.line, &*note.help)).collect();
    assert_eq!(kept, [(18, "keep this rule: vipnat leaves such connections alone")]);
    let backend = Backend { ip: Ipv4Addr::new(247, 0, 0, 1), port: None, weight: 1 };
    assert_eq!(import.services["vip-1-1"].backends, [backend]);
    assert_eq!(import.relationships["vip-1-1"].protocol, None);
}

/// Each beside a rule for a VIP before it and one after it, as found on machines of clouds, of
/// Kubernetes and of Docker. Second, what a note says to keep.
#[test]
fn rules_for_addresses_of_others_stay_beside_vipnat() {
    let good = |last: u8| {
        format!("OUTPUT -d 169.254.1.{last}/32 -p tcp -j DNAT --to-destination 247.0.0.{last}")
    };
    let (before, after) = (good(1), good(2));
    let credentials =
        "not imported: 169.254.170.2 belongs to credentials and metadata of Amazon ECS";
    let metadata = "not imported: 169.254.169.254 belongs to instance metadata of most clouds";
    for (rule, note) in [
        ("-d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 51679", credentials),
        ("-d 169.254.170.2/32 -p tcp -j DNAT --to-destination 127.0.0.1:51679", credentials),
        (
            "-d 169.254.169.254/32 -p tcp --dport 80 -j DNAT --to-destination 10.1.2.3:8181",
            metadata,
        ),
        (
            "-d 169.254.169.254/32 -m owner ! --uid-owner 0 -j DNAT --to-destination 10.1.2.3",
            metadata,
        ),
        (
            "-d 169.254.169.254/32 -j METADATA\n-A METADATA -j DNAT --to-destination 10.1.2.3",
            metadata,
        ),
        (
            "-d 169.254.170.2/32 -p tcp -j ECS\n-A ECS -j ECS2\n-A ECS2 -p udp -j DROP\n\
             -A ECS2 -p tcp -j REDIRECT --to-ports 51679",
            credentials,
        ),
        (
            "-d 127.0.0.11/32 -j DOCKER_OUTPUT\n-A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp \
             --dport 53 -j DNAT --to-destination 127.0.0.11:999",
            "it is for addresses outside 169.254.0.0/16",
        ),
        ("-d 169.254.169.254/32 -j DROP", ""),
        ("-d 169.254.169.254/32 -m set --match-set no-metadata src -j RETURN", ""),
        ("-d 169.254.20.10/32 -p udp --dport 53 -j ACCEPT", ""),
        ("-d 169.254.25.10/32 -p udp --dport 53 -j RETURN", ""),
        ("-d 169.254.255.255/32 -j DROP", ""),
        (
            "-d 169.254.169.0/24 -p tcp --dport 80 -j DNAT --to-destination 10.1.2.3",
            "no rule after",
        ),
        (
            "-d 169.254.170.7/32 -p tcp -j REDIRECT --to-ports 51679",
            "no rule after it is for a VIP",
        ),
        ("-d 169.254.1.2/32 -p udp -j RETURN", ""),
        ("-d 169.254.1.1/32 -j RETURN", ""),
        ("-d 169.254.0.0/20 -p udp --dport 53 -j ACCEPT", ""),
        ("-d 169.254.64.0/18 -j RETURN", ""),
        ("-d 10.96.0.10/32 -p udp --dport 53 -j DNAT --to-destination 10.0.0.9", "169.254.0.0/16"),
        ("-d 10.0.0.0/8 -j REDIRECT --to-ports 9", "it is for addresses outside 169.254.0.0/16"),
        ("! -d 169.254.0.0/16 -j RETURN", ""),
        ("! -d 169.0.0.0/8 -p tcp -j DNAT --to-destination 10.0.0.9", ""),
        (
            "-m addrtype --dst-type LOCAL -j DOCKER\n-A DOCKER -p tcp -j DNAT --to-destination 10.0.0.9",
            "",
        ),
        ("-i docker0 -j RETURN", ""),
    ] {
        let Import { relationships, unsupported, notes, .. } =
            nat(&[&before, &format!("OUTPUT {rule}"), &after]);
        assert_eq!(unsupported, [], "{rule}");
        assert_eq!(relationships.len(), 2, "{rule}");
        let notes: Vec<_> = notes.iter().map(Remark::to_string).collect();
        assert_eq!(notes.len(), usize::from(!note.is_empty()), "{rule}: {notes:?}");
        assert!(notes.iter().all(|said| said.contains(note) && said.contains("keep this rule")));
    }
}

/// `! -i` and `! -d` that hold for whatever goes to a VIP are no conditions.
#[test]
fn negations_that_always_hold_for_vips_change_nothing() {
    let dnat = "-p tcp -j DNAT --to-destination 247.0.0.1";
    let negated = "! -d 127.0.0.0/8 -m addrtype ! --dst-type LOCAL";
    let import = nat(&[
        &format!("OUTPUT {negated} -j A"),
        "A ! -d 169.254.169.254/32 -j B",
        &format!("B -d 169.254.1.1/32 ! -i docker0 {dnat}"),
    ]);
    assert_eq!((import.unsupported, import.notes), (Vec::new(), Vec::new()));
    assert_eq!(import.relationships["vip-1-1"].vip, Ipv4Addr::new(169, 254, 1, 1));
}

#[test]
fn a_vip_may_be_among_addresses_that_names_are_not_given() {
    let import = nat(&["OUTPUT -d 169.254.169.143/32 -p tcp -j DNAT --to-destination 247.0.0.1"]);
    assert_eq!(import.unsupported, []);
    assert_eq!(import.relationships["vip-169-143"].vip, Ipv4Addr::new(169, 254, 169, 143));
}

#[test]
fn one_vip_with_two_ports_or_two_ways_is_refused() {
    let rule = |protocol: &str, to: u8| {
        format!("OUTPUT -d 169.254.1.1/32 -p {protocol} -j DNAT --to-destination 247.0.0.{to}")
    };
    for (first, second, protocol) in [
        (rule("tcp --dport 80", 1), rule("tcp --dport 81", 1), Some(Protocol::Tcp)),
        (rule("udp --dport 80", 1), rule("udp", 1), Some(Protocol::Udp)),
        (rule("tcp", 1), rule("udp", 2), Some(Protocol::Tcp)),
    ] {
        let import = nat(&[&first, &second]);
        assert_eq!(import.unsupported.len(), 1, "{first} {second}");
        assert!(import.unsupported[0].to_string().starts_with("4: "));
        assert_eq!(import.relationships["vip-1-1"].protocol, protocol);
    }
    let both = nat(&[&rule("tcp", 1), &rule("udp", 1)]);
    assert!(both.unsupported.is_empty());
    assert_eq!(both.relationships["vip-1-1"].protocol, None);
}

#[test]
fn a_service_without_backends_is_what_the_filter_table_refuses() {
    let reject = "-j REJECT --reject-with icmp-host-unreachable";
    let import = import(&format!(
        "*filter\n-A OUTPUT -d 169.254.1.1/32 -p tcp {reject}\n\
         -A OUTPUT -d 169.254.1.2/32 {reject}\n-A OUTPUT -d 169.254.1.3/32 -p tcp -j REJECT\n\
         -A OUTPUT -d 10.0.0.1/32 {reject}\n-A OUTPUT -d 169.254.1.4/32 -o lo {reject}\nCOMMIT\n\
         *nat\n-A OUTPUT -d 169.254.1.2/32 -j DNAT --to-destination 247.0.0.1\nCOMMIT\n"
    ));
    assert_eq!(import.unsupported, Vec::new());
    assert_eq!(import.services.len(), 2);
    assert!(import.services["vip-1-1"].backends.is_empty());
    assert_eq!(import.services["vip-1-2"].backends.len(), 1);
    assert_eq!(import.relationships["vip-1-1"].protocol, Some(Protocol::Tcp));
}

#[test]
fn chains_without_an_end_are_refused() {
    let circle = nat(&["OUTPUT -j A", "A -j B", "B -j A"]);
    assert_eq!(circle.unsupported.len(), 1);
    // Two to the power of thirty ways through.
    let mut rules = vec!["OUTPUT -j C0".to_owned(), "C30 -j LOG".to_owned()];
    rules.extend((0..30).flat_map(|i| vec![format!("C{i} -j C{}", i + 1); 2]));
    let rules: Vec<_> = rules.iter().map(String::as_str).collect();
    assert_eq!(nat(&rules).unsupported.len(), 1);
}

#[test]
fn names_of_comments_are_used() {
    let rule = |vip: u8, to: u8, names: &str| {
        format!(
            "OUTPUT -d 169.254.1.{vip}/32 -m comment --comment \"vipnat {names}\" -j DNAT \
             --to-destination 247.0.0.{to}"
        )
    };
    let import = nat(&[
        &rule(1, 1, "db: postgres"),
        &rule(2, 1, "db: postgres"),
        &rule(3, 3, "cache: postgres"),
        &rule(4, 4, "a\tb: postgres"),
        &rule(5, 5, "vip-1-4: x"),
    ]);
    let relationships: Vec<_> = import
        .relationships
        .iter()
        .map(|(name, relationship)| (name, &*relationship.service))
        .collect();
    let expected = [
        ("cache", "vip-1-3"),
        ("db", "postgres"),
        ("db", "postgres"),
        ("vip-1-4", "vip-1-4"),
        ("vip-1-5", "x"),
    ];
    assert_eq!(relationships, expected);
}

/// A table with every kind of relationship.
const TABLE: &str = r#"
    [services.plain]
    backends = ["247.0.0.1", "247.0.0.2", "247.0.0.3"]
    [services.mixed]
    backends = [{ ip = "247.0.0.1", port = 81, weight = 3 }, "247.0.0.2", { ip = "247.0.0.3", weight = 2 }]
    [services.chance]
    select = "random"
    backends = [{ ip = "247.0.0.1", port = 81, weight = 3 }, "247.0.0.2", { ip = "247.0.0.3", weight = 5 }]
    [services.empty]
    backends = []
    [apps.shop]
    cgroup = "shop"
    relationships.a.service = "plain"
    relationships.b = { service = "mixed", port = 80 }
    relationships.c = { service = "mixed", protocol = "udp" }
    relationships.d = { service = "chance", vip = "169.254.1.1", port = 80, protocol = "tcp" }
    relationships.e = { service = "empty" }
    relationships."f\"$(x)`\\'" = { service = "chance" }
    relationships.g = [{ service = "plain", vip = "169.254.9.9" }, { service = "chance" }]
    relationships.h = { service = "plain", vip = "169.254.9.9" }
    relationships."i:" = { service = "again", vip = "169.254.9.9" }
    [services.again]
    backends = ["247.0.0.1", "247.0.0.2", "247.0.0.3"]
"#;

fn table() -> Table {
    Table::parse(TABLE.as_bytes(), "table", Path::new("/sys/fs/cgroup")).unwrap()
}

#[test]
fn an_export_is_imported_as_it_was() {
    let table = table();
    let app = &table.apps["shop"];
    let Import { services, relationships, unsupported, notes } =
        import(&iptables(&table, app, Packets::TcpAndUdp));
    assert_eq!((unsupported, notes), (Vec::new(), Vec::new()));
    assert_eq!((services, relationships), (table.services, app.relationships.clone()));
}

#[test]
fn endpoints_keep_their_order_where_another_relationship_has_the_vip_of_one() {
    let text = r#"
        services.primary.backends = ["247.0.0.1"]
        services.replica.backends = ["247.0.0.2"]
        [apps.shop]
        cgroup = "shop"
        relationships.admin = { service = "replica", vip = "169.254.1.2" }
        relationships.db = [
            { service = "primary", vip = "169.254.1.1" },
            { service = "replica", vip = "169.254.1.2" },
            { service = "primary", vip = "169.254.0.9" },
        ]
    "#;
    let table = Table::parse(text.as_bytes(), "table", Path::new("/sys/fs/cgroup")).unwrap();
    let rules = iptables(&table, &table.apps["shop"], Packets::TcpAndUdp);
    let again = import(&rules);
    assert_eq!(again.relationships, table.apps["shop"].relationships, "{rules}");
    // As comments were before they told the place. Only the order can be wrong then.
    let old = import(&rules.replace("db[1]:", "db:").replace("db[2]:", "db:"));
    assert_eq!((old.relationships.len(), old.unsupported), (4, Vec::new()));
    let groups: Vec<_> = old.relationships.groups().map(|(name, of)| (name, of.len())).collect();
    assert_eq!(groups, [("admin", 1), ("db", 3)]);
}

/// Its name gives `n14074` the VIP 169.254.25.10, which also others use.
#[test]
fn a_vip_that_its_name_gives_is_imported_even_where_another_service_is_known() {
    let text = r#"
        services.db.backends = ["247.0.0.1", "247.0.0.2"]
        services.none.backends = []
        [apps.shop]
        cgroup = "shop"
        relationships.n14074.service = "db"
    "#;
    for text in [text.to_owned(), text.replace("service = \"db\"", "service = \"none\"")] {
        let table = Table::parse(text.as_bytes(), "table", Path::new("/sys/fs/cgroup")).unwrap();
        let app = &table.apps["shop"];
        assert_eq!(app.relationships["n14074"].vip, Ipv4Addr::new(169, 254, 25, 10));
        let rules = iptables(&table, app, Packets::TcpAndUdp);
        let again = import(&rules);
        assert_eq!((&*again.unsupported, &*again.notes), (&[][..], &[][..]), "{rules}");
        assert_eq!(again.relationships, app.relationships, "{rules}");
        well_formed(&again);
        // Another name does not give it, nor one beside it, nor one that a table can't have.
        let long = "s".repeat(64);
        for names in ["db: db", "n14074: db db: db", "", &format!("n14074: {long}")] {
            let other = rules.replace("n14074: db", names).replace("n14074: none", names);
            assert!(import(&other).relationships.is_empty(), "{other}");
        }
    }
}

#[test]
fn rules_beside_vipnat_are_none_of_a_table() {
    let table = table();
    let import = import(&iptables(&table, &table.apps["shop"], Packets::Unreached));
    assert_eq!(import.unsupported, Vec::new());
    assert!(import.relationships.is_empty());
}

proptest! {
    #[test]
    fn damaged_rules_are_refused_or_make_a_good_table(
        damages in proptest::collection::vec((any::<prop::sample::Index>(), 0..4u8, "[ -~\t\"\\\\]{0,6}|[0-9.:/-]{1,4}"), 0..8),
    ) {
        let table = table();
        let mut text = iptables(&table, &table.apps["shop"], Packets::TcpAndUdp);
        for (place, kind, with) in damages {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            let line = place.index(lines.len());
            match kind {
                0 => drop(lines.remove(line)),
                1 => lines.insert(line, lines[place.index(line + 1)].clone()),
                2 => lines.push(lines[line].clone()),
                _ => {
                    let words = lines[line].split(' ').count();
                    let at = place.index(words);
                    let replaced = lines[line].split(' ').enumerate();
                    lines[line] = replaced
                        .map(|(i, word)| if i == at { with.as_str() } else { word })
                        .collect::<Vec<_>>()
                        .join(" ");
                }
            }
            text = lines.join("\n") + "\n";
        }
        well_formed(&import(&text));
    }

    #[test]
    fn any_text_is_refused_or_makes_a_good_table(text in ".*") {
        well_formed(&import(&text));
        well_formed(&import(&format!("*nat\n-A OUTPUT {text}\n")));
    }
}

/// What was imported, as a table, is one.
fn well_formed(import: &Import) {
    for remark in import.unsupported.iter().chain(&import.notes) {
        assert!(remark.to_string().lines().count() >= 2);
    }
    let mut table = table();
    table.services = import.services.clone();
    table.apps.get_mut("shop").unwrap().relationships = import.relationships.clone();
    let text = table.to_toml().unwrap();
    let again = Table::parse(text.as_bytes(), "imported", Path::new("/sys/fs/cgroup"));
    assert_eq!(again.as_ref(), Ok(&table), "{text}");
}
