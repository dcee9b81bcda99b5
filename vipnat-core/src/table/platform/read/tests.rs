//! Tests the import of real and broken values, and that errors contain no secrets.

use std::net::Ipv4Addr;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::table::{
    Backend, ByName, OnBackendRemoved, Relationship, Select, Service, UdpPinning, vip_of,
};

const SECRET: &str = "s3cret-hunter2";

fn app() -> App {
    App { cgroup: None, relationships: ByName::default() }
}

fn read(value: impl AsRef<[u8]>) -> Result<Imported, TableError> {
    read_as(value, Unsupported::Refuse)
}

fn read_as(value: impl AsRef<[u8]>, unsupported: Unsupported) -> Result<Imported, TableError> {
    Table::from_platform_relationships(value.as_ref(), "value", "shop", app(), unsupported)
}

fn read_json(value: &Value) -> Imported {
    read(value.to_string()).unwrap()
}

/// A value as a platform writes it.
fn real() -> Value {
    json!({ "database": [{
        "username": "user", "scheme": "mysql", "service": "mysql", "fragment": null,
        "ip": "169.254.150.110", "hostname": "abc.mysql.service._.example.org", "public": false,
        "host": "database.internal", "rel": "mysql", "query": { "is_master": true },
        "path": "main", "password": SECRET, "type": "mariadb:10.6", "port": "3306",
        "host_mapped": false, "instance_ips": ["247.64.28.51", "247.64.28.52"],
    }]})
}

#[test]
fn ip_is_the_vip_instance_ips_the_backends_and_the_rest_the_endpoint() {
    let Imported { table, notes, skipped: None } = read_json(&real()) else { panic!() };
    assert_eq!(notes, [""; 0]);
    let relationship = &table.apps["shop"].relationships["database"];
    assert_eq!(relationship.vip, Ipv4Addr::new(169, 254, 150, 110));
    assert_eq!((relationship.port, relationship.protocol), (None, None));
    let backends: Vec<_> = table.backends(relationship).iter().map(|b| b.ip.to_string()).collect();
    assert_eq!(backends, ["247.64.28.51", "247.64.28.52"]);
    let endpoint = Value::Object((*relationship.endpoint).clone());
    assert_eq!((&endpoint["port"], &endpoint["fragment"]), (&json!("3306"), &Value::Null));
    assert_eq!((endpoint.get("ip"), endpoint.get("instance_ips")), (None, None));
    assert_eq!(table.apps["shop"].cgroup, app().cgroup);
}

#[test]
fn base64_of_any_kind_is_the_same() {
    // It is long enough for several lines, and has both characters in which the alphabets differ.
    let mut value = real();
    value["database"][0]["path"] = json!("???>>>~~~ üüü");
    let (text, expected) = (value.to_string(), read_json(&value));
    for text in [text.clone(), format!("{text} ")] {
        let standard = BASE64_STANDARD.encode(&text);
        assert!(standard.contains('/') && standard.contains('+'), "{standard}");
        let lines: Vec<_> = standard.as_bytes().chunks(76).collect();
        for value in [
            lines.join(&b"\r\n"[..]),
            format!("\u{feff} {standard}\n").into_bytes(),
            standard.trim_end_matches('=').into(),
            BASE64_URL_SAFE_NO_PAD.encode(&text).into(),
            format!("\n\u{feff}\t{text}").into_bytes().split_off(1),
        ] {
            assert_eq!(read(&value).unwrap(), expected, "{}", String::from_utf8_lossy(&value));
        }
    }
}

#[test]
fn what_real_data_lacks_is_said() {
    let cases = [
        (json!([]), &[][..]),
        (json!({}), &[]),
        (json!({ "db": [] }), &["db is left out: it has no endpoint"]),
        (json!({ "db": null }), &["db is left out: it has no endpoint"]),
        (json!({ "db": [null] }), &["db is left out: it has no endpoint"]),
        (
            json!({ "db": [{ "ip": null, "instance_ips": ["247.0.0.1"], "host": "db.internal" }] }),
            &["db has no ip: it gets the VIP of its name, 169.254.37.209"],
        ),
        (
            json!({ "db": [{ "ip": "169.254.1.1", "instance_ips": null }] }),
            &["db has no instance_ips: connects to it fail until its service has backends"],
        ),
        (json!({ "db": { "ip": " 169.254.1.1", "instance_ips": [null, "247.0.0.1"] } }), &[]),
        (json!({ "db": { "ip": "169.254.1.1", "instance_ips": "247.0.0.1" } }), &[]),
        (
            json!({ "db": [{ "ip": "169.254.1.1", "instance_ips": ["247.0.0.1", "247.0.0.1"] }] }),
            &["db has the instance 247.0.0.1 twice: it is listed once"],
        ),
        (
            json!({ "db": [{ "host": "db.internal", "query": [] }] }),
            &[
                "db has no ip: it gets the VIP of its name, 169.254.37.209",
                "db has no instance_ips: connects to it fail until its service has backends",
            ],
        ),
    ];
    for (value, notes) in cases {
        assert_eq!(read_json(&value).notes, notes, "{value}");
    }
}

#[test]
fn what_a_table_cannot_represent_is_an_error_that_names_the_relationship() {
    let endpoint = |ip: Value, instances: Value| json!({ "db": [{ "ip": ip, "instance_ips": instances, "password": SECRET }] });
    let good = json!("169.254.1.1");
    let cases = [
        (json!({ "my db": [{}] }), "my db: white space or a control character in the name"),
        (json!({ "": [{}] }), "an empty name"),
        (json!({ "db": [{}, SECRET] }), "value:1:11: db[1]: a string instead of an endpoint"),
        (json!({ "db": [{}, { "ip": SECRET }] }), "value:1:17: db[1].ip: not an IPv4 address"),
        (json!({ "db": SECRET }), "value:1:7: db: a string instead of an endpoint"),
        (json!({ "db": [[SECRET]] }), "value:1:8: db[0]: a list instead of an endpoint"),
        (json!([SECRET]), "value:1:1: the value is a list, not an object"),
        (endpoint(json!(SECRET), json!([])), "value:1:14: db[0].ip: not an IPv4 address"),
        (endpoint(json!("247.0.0.1"), json!([])), "db[0].ip: 247.0.0.1 is outside 169.254.0.0/16"),
        (
            endpoint(json!("169.254.169.254"), json!([])),
            "db[0].ip: 169.254.169.254 belongs to instance",
        ),
        (endpoint(json!(2852039166_u32), json!([])), "db[0].ip: a number instead of"),
        (endpoint(good.clone(), json!([SECRET])), "db[0].instance_ips[0]: not an IPv4 address"),
        (endpoint(good.clone(), json!({ "a": SECRET })), "db[0].instance_ips[0]: a table instead"),
        (endpoint(good.clone(), json!(["fd00::1"])), "db[0].instance_ips[0]: not an IPv4 address"),
        (endpoint(good.clone(), json!(["169.254.1.2"])), "169.254.1.2 is in the range of VIPs"),
        (endpoint(good.clone(), json!(["224.0.0.1"])), "224.0.0.1 is a multicast address"),
        (
            json!({
                "a": [{ "ip": good, "instance_ips": ["247.0.0.1"] }],
                "b": [{ "ip": good, "instance_ips": ["247.0.0.2"] }],
            }),
            "b[0]: relationships \"a\" and \"b\" have the same VIP 169.254.1.1, but differ in `instance",
        ),
        (
            json!({ "a": [
                { "ip": good, "instance_ips": ["247.0.0.1", "247.0.0.2"] },
                { "ip": good, "instance_ips": ["247.0.0.2", "247.0.0.1"] },
            ]}),
            "a[1]: relationships \"a[0]\" and \"a[1]\" have the same VIP 169.254.1.1, but differ in",
        ),
    ];
    for (value, expected) in cases {
        let error = read(value.to_string()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}\n{error}");
        assert_eq!(error.lines().count(), 2, "{error}");
        assert!(!error.contains(SECRET), "{error}");
    }
    let error = read(BASE64_STANDARD.encode("{\"db\": 7}")).unwrap_err().to_string();
    assert!(error.starts_with("value, decoded:1:8: db: a number instead"), "{error}");
}

#[test]
fn what_a_table_cannot_represent_can_be_left_out() {
    let value = json!({
        "my db": [{ "ip": "169.254.1.1" }],
        "db": [{ "ip": "169.254.1.2", "instance_ips": ["247.0.0.1"] }, { "ip": SECRET }, SECRET],
        "cache": [{ "ip": "169.254.1.2", "instance_ips": ["247.0.0.2"] }],
        "metadata": [{ "ip": "169.254.169.254" }],
        "text": SECRET,
    });
    let Imported { table, skipped, .. } = read_as(value.to_string(), Unsupported::Skip).unwrap();
    let names: Vec<_> = table.apps["shop"].relationships.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["cache"]);
    let skipped = skipped.unwrap().to_string();
    for part in [
        "my db: white",
        "db[0]: relationships \"cache\" and \"db[0]\"",
        "db[1].ip:",
        "db[2]:",
        "metadata[0].ip:",
        "text: a string",
    ] {
        assert!(skipped.contains(part), "{part}: {skipped}");
    }
    assert!(!skipped.contains(SECRET), "{skipped}");
    assert!(read_as(json!([SECRET]).to_string(), Unsupported::Skip).is_err());
}

#[test]
fn endpoints_with_one_ip_have_one_service() {
    let value = json!({
        "admin": [{ "ip": "169.254.1.1" }],
        "db": [
            { "ip": "169.254.1.2", "instance_ips": ["247.0.0.1"] },
            { "ip": "169.254.1.3", "instance_ips": ["247.0.0.2"] },
            { "ip": "169.254.1.1", "instance_ips": ["247.0.0.3"] },
        ],
        "db-2": [{ "ip": "169.254.1.4", "instance_ips": [] }],
    });
    let Imported { table, notes, .. } = read_json(&value);
    let app = &table.apps["shop"];
    let services: Vec<_> = app.relationships.iter().map(|(name, r)| (name, &*r.service)).collect();
    let expected =
        [("admin", "admin"), ("db", "db"), ("db", "db-3"), ("db", "admin"), ("db-2", "db-2")];
    assert_eq!(services, expected);
    assert_eq!(
        notes,
        ["db-2 has no instance_ips: connects to it fail until its service has backends"]
    );
    assert_eq!(table.services["admin"].backends[0].ip.to_string(), "247.0.0.3");
    assert_eq!(table.relationships(app), value);
}

#[test]
fn what_is_no_value_at_all() {
    for (value, expected) in [
        (&b""[..], "there is nothing in it"),
        (b" \n", "there is nothing in it"),
        (b"\xff\xfe", "not text"),
        (b"s3cret-hunter2!", "neither JSON nor base64"),
        (b"////", "base64, but not of text"),
        (b"eyJkYiI6", "value, decoded:1:6: db: EOF while parsing a value"),
        (b"{\"db\": [}", "value:1:9: db[0]: expected value"),
        (b"{\"a\": [], \"a\": []}", "duplicate key \"a\""),
        (b"{} {}", "value:1:4: trailing characters"),
    ] {
        let error = read(value).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}\n{error}");
        assert!(!error.contains(SECRET), "{error}");
    }
}

prop_compose! {
    fn any_endpoint()(
        fields in proptest::collection::btree_map("[a-z]{1,8}", any_json(), 0..5),
    ) -> Map<String, Value> {
        fields.into_iter().filter(|(key, _)| key != "ip").collect()
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,25})?(e[+-]?[0-9]{1,3})?"
            .prop_map(|number| serde_json::from_str(&number).unwrap()),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(".{0,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The value with 64-bit floats, so that 1.50 is 1.5.
fn as_floats(value: Value) -> Value {
    match value {
        Value::Number(number) if number.as_i64().is_none() => json!(number.as_f64()),
        Value::Array(list) => list.into_iter().map(as_floats).collect(),
        Value::Object(object) => {
            object.into_iter().map(|(key, value)| (key, as_floats(value))).collect()
        }
        other => other,
    }
}

proptest! {
    #[test]
    fn a_table_comes_back_from_its_own_value(
        relationships in proptest::collection::btree_map(
            "[a-z]{1,10}",
            (proptest::option::of(1..=19_u8), any_endpoint(), proptest::collection::btree_set(1..=254_u8, 0..5)),
            0..5,
        ),
    ) {
        let mut table = Table { services: BTreeMap::new(), apps: BTreeMap::new() };
        let mut app = app();
        for (i, (name, (own, endpoint, backends))) in relationships.into_iter().enumerate() {
            let vip = own.map_or_else(|| vip_of(&name), |own| Ipv4Addr::new(169, 254, own, i as u8));
            if app.relationships.values().any(|other| other.vip == vip) {
                continue;
            }
            let backends = backends
                .into_iter()
                .map(|n| Backend { ip: Ipv4Addr::new(247, 0, 0, n), port: None, weight: 1 })
                .collect();
            let service = Service {
                backends,
                select: Select::default(),
                udp_pinning: UdpPinning::default(),
                on_backend_removed: OnBackendRemoved::default(),
            };
            table.services.insert(name.clone(), service);
            app.relationships.push(
                &name,
                Relationship {
                    service: name.as_str().into(),
                    vip,
                    port: None,
                    protocol: None,
                    instance_ips: true,
                    endpoint: endpoint.into(),
                },
            );
        }
        let value = table.platform_relationships(&app);
        table.apps.insert("shop".to_owned(), app);
        prop_assert_eq!(read(value).unwrap().table, table);
    }

    #[test]
    fn no_input_panics(bytes: Vec<u8>, text in ".*") {
        let _ = (read(bytes), read(&text), read(format!("{{{text}")), read(BASE64_STANDARD.encode(text)));
    }

    /// This holds for several endpoints too, with equal or different VIPs.
    #[test]
    fn a_value_comes_back_from_the_table_made_of_it(
        relationships in proptest::collection::btree_map(
            "[a-z]{1,10}",
            proptest::collection::vec((any_endpoint(), 0..4_u8, any::<bool>()), 1..4),
            0..4,
        ),
    ) {
        let endpoint = |(mut endpoint, vip, says): (Map<String, Value>, u8, bool)| {
            endpoint.insert("ip".to_owned(), json!(format!("169.254.169.{vip}")));
            if says {
                endpoint.insert("instance_ips".to_owned(), json!([format!("247.0.0.{vip}")]));
            } else {
                endpoint.remove("instance_ips");
            }
            Value::Object(endpoint)
        };
        let value: Map<_, _> = relationships
            .into_iter()
            .map(|(name, endpoints)| (name, endpoints.into_iter().map(endpoint).collect()))
            .collect();
        let value = Value::Object(value);
        let Imported { table, skipped, .. } = read_json(&value);
        prop_assert_eq!(skipped, None);
        prop_assert_eq!(table.relationships(&table.apps["shop"]), value.clone());
        let cgroups = std::path::Path::new("/sys/fs/cgroup");
        let again = Table::parse(table.to_json().as_bytes(), "json", cgroups).unwrap();
        prop_assert_eq!(&again, &table);
        if let Ok(toml) = table.to_toml() {
            let again = Table::parse(toml.as_bytes(), "toml", cgroups).unwrap();
            let again = again.relationships(&again.apps["shop"]);
            // TOML may write a number in another form.
            prop_assert_eq!(as_floats(again), as_floats(value));
        }
    }

    /// No damage to a real value makes an error contain the password.
    #[test]
    fn no_damage_makes_an_error_tell_a_secret(
        at in 0..600_usize, len in 0..40_usize, with in r#"[\[\]{}":,0-9a-z]{0,8}"#, base64: bool,
    ) {
        let good = real().to_string();
        let at = at.min(good.len());
        let end = (at + len).min(good.len());
        let text = format!("{}{with}{}", &good[..at], &good[end..]);
        let read = if base64 { read(BASE64_STANDARD.encode(text)) } else { read(text) };
        if let Err(error) = read {
            prop_assert!(!error.to_string().contains("s3cret"), "{}", error);
        }
    }

    #[test]
    fn no_shape_panics(value in any_json()) {
        let _ = (read(value.to_string()), read(json!({ "db": [value] }).to_string()));
    }
}
