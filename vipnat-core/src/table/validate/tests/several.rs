//! Tests relationships with several endpoints, and VIPs with several relationships.

use super::fixture::{parse, value_to_json};

/// A primary and its replica, and two users of the primary.
const SEVERAL: &str = r#"
[services.primary]
backends = ["247.0.0.1"]

[services.replica]
backends = ["247.0.0.2", "247.0.0.3"]

[apps.shop]

[[apps.shop.relationships.db]]
service = "primary"
endpoint = { username = "main" }

[[apps.shop.relationships.db]]
service = "replica"
vip = "169.254.1.2"

[[apps.shop.relationships.db]]
service = "primary"
endpoint = { username = "admin" }

[apps.shop.relationships.reporting]
service = "replica"
vip = "169.254.1.2"
"#;

#[test]
fn a_relationship_has_several_endpoints_and_a_vip_several_users() {
    let table = parse(SEVERAL).unwrap();
    let json = value_to_json(&toml::from_str(SEVERAL).unwrap());
    assert_eq!(parse(&json).unwrap(), table);
    let app = &table.apps["shop"];
    let all: Vec<_> = app.relationships.iter().map(|(name, r)| (name, r.vip.to_string())).collect();
    let (db, replica) = ("169.254.37.209".to_owned(), "169.254.1.2".to_owned());
    let expected = [
        ("db", db.clone()),
        ("db", replica.clone()),
        ("db", db.clone()),
        ("reporting", replica.clone()),
    ];
    assert_eq!(all, expected);
    let mapped: Vec<_> = app.mappings().map(|(name, r)| (name, r.vip.to_string())).collect();
    assert_eq!(mapped, [("db", db), ("db", replica)]);
    let value = table.relationships(app);
    assert_eq!(value["db"][0]["username"], "main");
    assert_eq!(value["db"][1]["instance_ips"], serde_json::json!(["247.0.0.2", "247.0.0.3"]));
    assert_eq!(value["db"][2]["ip"], value["db"][0]["ip"]);
    assert_eq!(value["reporting"][0]["ip"], "169.254.1.2");
}

#[test]
fn mistakes_in_one_of_several_endpoints_have_its_place() {
    for (part, instead, expected) in [
        (
            "service = \"replica\"\nvip",
            "service = \"replicas\"\nvip",
            "t:15:11: apps.shop.relationships.db[1].service: there is no service \"replicas\"",
        ),
        (
            "vip = \"169.254.1.2\"",
            "vip = 7",
            "t:16:7: apps.shop.relationships.db[1].vip: invalid type",
        ),
        ("vip = ", "vpi = ", "t:16:1: apps.shop.relationships.db[1].vpi: unknown field `vpi`"),
        (
            "vip = \"169.254.1.2\"",
            "",
            "t:14:1: apps.shop.relationships.db[1]: relationships \"db[0]\" and \"db[1]\" have the same \
             VIP 169.254.37.209, but differ in `backends`",
        ),
        (
            "[apps.shop.relationships.reporting]",
            "[apps.shop.relationships.reporting]\nport = 3306",
            "relationships \"db[1]\" and \"reporting\" have the same VIP 169.254.1.2, but differ in `port`",
        ),
        (
            "[apps.shop.relationships.reporting]",
            "[apps.shop.relationships.reporting]\nprotocol = \"udp\"",
            "but differ in `protocol`",
        ),
        (
            "[apps.shop.relationships.reporting]\nservice = \"replica\"",
            "[services.other]\nselect = \"random\"\nbackends = [\"247.0.0.2\", \"247.0.0.3\"]\n\
             [apps.shop.relationships.reporting]\nservice = \"other\"",
            "but differ in `select`",
        ),
        (
            "[apps.shop.relationships.reporting]\nservice = \"replica\"",
            "[services.other]\nbackends = [\"247.0.0.3\", \"247.0.0.2\"]\n\
             [apps.shop.relationships.reporting]\nservice = \"other\"",
            "but differ in `backends`",
        ),
        (
            "endpoint = {",
            "endpoint = { ip = 1,",
            "apps.shop.relationships.db[0].endpoint.ip: the end",
        ),
    ] {
        assert!(SEVERAL.contains(part), "{part}");
        let error = parse(&SEVERAL.replacen(part, instead, 1)).unwrap_err().to_string();
        assert!(error.contains(expected), "{part} -> {instead}:\n{error}\nexpected: {expected}");
    }
    for (endpoints, expected) in [
        ("[]", "apps.a.relationships.r: a relationship without an endpoint"),
        ("[7]", "apps.a.relationships.r[0]: invalid type: a number, expected a table with"),
        ("[[\"s\"]]", "apps.a.relationships.r[0]: invalid type: a list, expected a table with"),
        ("[{}]", "apps.a.relationships.r[0]: missing field `service`"),
        (
            "\"s\"",
            "apps.a.relationships.r: invalid type: a string, expected a table with `service`, or",
        ),
    ] {
        let json = format!(r#"{{"apps": {{"a": {{"relationships": {{"r": {endpoints}}}}}}}}}"#);
        let error = parse(&json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
}
