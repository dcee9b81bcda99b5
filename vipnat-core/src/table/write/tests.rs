//! Reading a written table gives the same table.

use std::{collections::BTreeMap, net::Ipv4Addr, num::NonZeroU16};

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::table::{ByName, Cgroups};

fn name() -> impl Strategy<Value = String> {
    "[^\\s\\p{C}\\p{Default_Ignorable_Code_Point}]{1,15}"
}

fn backends() -> impl Strategy<Value = Vec<Backend>> {
    let backend = (any::<u16>(), option::of(any::<NonZeroU16>()), 1..=Backend::MAX_WEIGHT);
    vec(backend, 0..6).prop_map(|backends| {
        let backend = |(i, (ip, port, weight)): (usize, (u16, _, _))| {
            let [a, b] = ip.to_be_bytes();
            Backend { ip: Ipv4Addr::new(240 + i as u8, 0, a, b), port, weight }
        };
        backends.into_iter().enumerate().map(backend).collect()
    })
}

fn service() -> impl Strategy<Value = Service> {
    let select = prop_oneof![Just(Select::RoundRobin), Just(Select::Random)];
    let udp_pinning = prop_oneof![Just(UdpPinning::Table), Just(UdpPinning::Strict)];
    let removed = prop_oneof![
        Just(OnBackendRemoved::Keep),
        Just(OnBackendRemoved::Kill),
        (1..=OnBackendRemoved::MAX_DRAIN).prop_map(OnBackendRemoved::Drain),
    ];
    (backends(), select, udp_pinning, removed).prop_map(
        |(backends, select, udp_pinning, on_backend_removed)| Service {
            backends,
            select,
            udp_pinning,
            on_backend_removed,
        },
    )
}

/// Values of an endpoint that TOML can express.
fn endpoint() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        ".*".prop_map(Value::from),
        "[\u{0}-\u{9f}\"'\\\\]{0,9}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 12, 4, |value| {
        prop_oneof![
            vec(value.clone(), 0..4).prop_map(Value::from),
            vec((".*", value), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    });
    vec((".*", value), 0..4).prop_map(|entries| {
        let mut endpoint: Map<_, _> = entries.into_iter().collect();
        endpoint.retain(|key, _| !["ip", "instance_ips"].contains(&key.as_str()));
        endpoint
    })
}

/// Relationships: name, VIP, port, protocol, endpoint, and `instance_ips`.
type Relations =
    Vec<(String, Option<[u8; 2]>, Option<NonZeroU16>, Option<Protocol>, Map<String, Value>, bool)>;

fn relationships() -> impl Strategy<Value = Relations> {
    let protocol = option::of(prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]);
    // 169.254.10.0/24 has addresses that a check refuses.
    let vip = option::of((1..=9u8, any::<u8>()).prop_map(|(a, b)| [a, b]));
    // Some relationships get the same name.
    let name = prop_oneof![name(), Just("db".to_owned())];
    vec((name, vip, option::of(any::<NonZeroU16>()), protocol, endpoint(), any::<bool>()), 0..5)
}

prop_compose! {
    fn tables()(
        services in proptest::collection::btree_map(name(), service(), 1..4),
        apps in proptest::collection::btree_map(name(), ("[^/\u{0}]{1,9}", relationships()), 1..3),
    ) -> Table {
        let names: Vec<String> = services.keys().cloned().collect();
        let apps = apps.into_iter().enumerate().map(|(i, (name, (cgroup, relations)))| {
            // A name with brackets may not be a valid pattern.
            let cgroup = Cgroups::parse(format!("{i}{cgroup}/x").as_ref()).ok();
            let mut all: BTreeMap<_, Vec<Relationship>> = BTreeMap::new();
            for (n, (name, vip, port, protocol, endpoint, instance_ips)) in
                relations.into_iter().enumerate()
            {
                let vip = vip.map_or(vip_of(&name), |[a, b]| Ipv4Addr::new(169, 254, a, b));
                let service: std::sync::Arc<str> = names[n % names.len()].as_str().into();
                // Relationships with the same VIP must have the same service, port and protocol.
                let mut others = all.values().flatten().filter(|other| other.vip == vip);
                let (service, port, protocol) = others.next().map_or(
                    (service, port, protocol),
                    |other| (other.service.clone(), other.port, other.protocol),
                );
                let endpoint = endpoint.into();
                let one = Relationship { service, vip, port, protocol, instance_ips, endpoint };
                all.entry(name).or_default().push(one);
            }
            let mut relationships = ByName::default();
            for (name, all) in all {
                all.into_iter().for_each(|one| relationships.push(&name, one));
            }
            (name, App { cgroup, relationships })
        });
        Table { apps: apps.collect(), services }
    }
}

fn parse(text: &str) -> Table {
    Table::parse(text.as_bytes(), "written", std::path::Path::new("/sys/fs/cgroup"))
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

proptest! {
    #[test]
    fn what_is_written_reads_as_the_same_table(table in tables()) {
        let toml = table.to_toml().unwrap();
        prop_assert_eq!(&parse(&toml), &table, "{}", toml);
        let json = table.to_json();
        prop_assert_eq!(&parse(&json), &table, "{}", json);
    }
}

#[test]
fn the_layout_is_the_one_of_the_documentation() {
    let text = r#"[services.postgres]
backends = ["247.221.80.48", "247.221.80.52"]

[services.redis]
backends = [{ ip = "247.221.80.70", port = 6380, weight = 2 }, "247.221.80.71"]
select = "random"
on-backend-removed = "drain"
drain-seconds = 60

[apps.shop]
cgroup = "shop.slice/shop"

[apps.shop.relationships.cache]
service = "redis"
vip = "169.254.17.140"
port = 6379
protocol = "tcp"

[[apps.shop.relationships.db]]
service = "postgres"
endpoint = { scheme = "pgsql", port = 5432, query = { is_master = true } }

[[apps.shop.relationships.db]]
service = "redis"
vip = "169.254.17.141"
instance-ips = false

[apps.shop.relationships.reporting]
service = "postgres"
vip = "169.254.37.209"
"#;
    assert_eq!(parse(text).to_toml().unwrap(), text);
}

#[test]
fn what_toml_does_not_have_is_named_and_json_has_it() {
    let text = |value: &str| {
        format!(
            r#"{{"services": {{"s": {{"backends": []}}}}, "apps": {{"a": {{"cgroup": "c",
            "relationships": {{"db": {{"service": "s", "endpoint": {{"x": [1, {value}]}}}}}}}}}}}}"#
        )
    };
    // Endpoints hold passwords, so the error describes the value and does not repeat it.
    let large = "a number beyond 63 bits";
    let fine = "a number with more digits than floating point has";
    for (value, shown) in [
        ("null", "null"),
        ("18446744073709551615", large),
        ("-9223372036854775809", large),
        ("123456789012345678901234567890", large),
        ("-0", "minus zero"),
        ("1e400", fine),
        ("-1e-400", fine),
        ("0.12345678901234567890", fine),
        ("9007199254740993.0", fine),
    ] {
        let table = parse(&text(value));
        let json = table.to_json();
        assert_eq!(parse(&json), table);
        assert!(json.contains(&value.replace("1e4", "1e+4")), "{json}");
        let error = table.to_toml().unwrap_err().to_string();
        let path = "apps.a.relationships.db.endpoint.x[1]";
        assert!(error.starts_with(&format!("{path} is {shown}, ")), "{error}");
    }
}

#[test]
fn numbers_that_toml_has_stay_what_they_are() {
    let numbers = "[0, 1, 1.0, -0.0, 1.50, 1e2, 1E-7, 9223372036854775807, -9223372036854775808]";
    let text = format!(
        r#"{{"services": {{"s": {{"backends": []}}}}, "apps": {{"a": {{"cgroup": "c",
            "relationships": {{"db": {{"service": "s", "endpoint": {{"x": {numbers}}}}}}}}}}}}}"#
    );
    let endpoint = |table: &Table| table.apps["a"].relationships["db"].endpoint["x"].to_string();
    let table = parse(&text);
    let shown = endpoint(&table);
    assert!(shown.starts_with("[0,1,1.0,-0.0,1.50,"), "{shown}");
    let again = endpoint(&parse(&table.to_toml().unwrap()));
    assert!(again.starts_with("[0,1,1.0,-0.0,1.5,100.0,1e-7,"), "{again}");
    assert!(again.ends_with("9223372036854775807,-9223372036854775808]"), "{again}");
}
