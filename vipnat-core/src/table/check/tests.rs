//! What is accepted and what is refused, as tables.

mod readers;
mod secrets;

use std::num::NonZeroU16;

use serde_json::Value;

use super::*;
use crate::table::{OnBackendRemoved, Select, UdpPinning};

const GOOD: &str = r#"
[services.postgres]
backends = ["247.221.80.48", "247.221.80.52"]

[services.redis]
backends = [{ ip = "247.221.80.70", port = 6380, weight = 2 }, "247.221.80.71"]

[services.empty]
backends = []
select = "random"
udp-pinning = "strict"
on-backend-removed = "drain"
drain-seconds = 300

[apps.shop]
cgroup = "shop.slice/shop"

[apps.shop.relationships.db]
service = "postgres"
endpoint = { scheme = "pgsql", port = 5432, path = "main" }

[apps.shop.relationships.cache]
service = "redis"
vip = "169.254.17.140"
port = 6379
protocol = "tcp"

[apps.blog]
cgroup = "/sys/fs/cgroup/blog/./a"

[[apps.blog.relationships.db]]
service = "postgres"

[[apps.blog.relationships.db]]
service = "postgres"
vip = "169.254.17.141"
instance-ips = false
"#;

fn parse(text: &str) -> Result<Table, TableError> {
    parse_bytes(text.as_bytes())
}

fn parse_bytes(bytes: &[u8]) -> Result<Table, TableError> {
    Table::parse(bytes, "t", FilePath::new("/sys/fs/cgroup"))
}

#[test]
fn a_good_table() {
    let table = parse(GOOD).unwrap();
    let shop = &table.apps["shop"];
    let cgroup = shop.cgroup.as_ref().and_then(Cgroups::path);
    assert_eq!(cgroup.as_deref(), Some(FilePath::new("shop.slice/shop")));
    let cgroup = table.apps["blog"].cgroup.as_ref().and_then(Cgroups::path);
    assert_eq!(cgroup.as_deref(), Some(FilePath::new("blog/a")));
    assert_eq!(shop.relationships["db"].vip, Ipv4Addr::new(169, 254, 37, 209));
    assert_eq!(shop.relationships["db"].port, None);
    let cache = &shop.relationships["cache"];
    assert_eq!(cache.vip, Ipv4Addr::new(169, 254, 17, 140));
    assert_eq!(cache.port, NonZeroU16::new(6379));
    assert_eq!(cache.protocol, Some(Protocol::Tcp));
    let first = table.backends(cache)[0];
    assert_eq!((first.port, first.weight), (NonZeroU16::new(6380), 2));
    let empty = &table.services["empty"];
    assert!(empty.backends.is_empty());
    assert_eq!((empty.select, empty.udp_pinning), (Select::Random, UdpPinning::Strict));
    assert_eq!(empty.on_backend_removed, OnBackendRemoved::Drain(300));
    let redis = &table.services["redis"];
    assert_eq!((redis.select, redis.udp_pinning), (Select::RoundRobin, UdpPinning::Table));
}

#[test]
fn json_is_the_same_table() {
    let value: toml::Value = toml::from_str(GOOD).unwrap();
    let json = serde_json::to_string_pretty(&value).unwrap();
    assert_eq!(parse(&json).unwrap(), parse(GOOD).unwrap());
}

/// The good table with one part replaced, and what is then said.
#[test]
fn refusals_name_place_object_and_reason() {
    let cases = [
        ("[services.redis]", "[services.redis", "t:5:16: unclosed table"),
        (
            "vip = ",
            "vpi = ",
            "t:24:1: apps.shop.relationships.cache.vpi: unknown field `vpi`, expected one of `service`, `vip`",
        ),
        (
            "service = \"redis\"",
            "service = \"reddis\"",
            "t:23:11: apps.shop.relationships.cache.service: there is no service \"reddis\"",
        ),
        (
            "\"247.221.80.48\"",
            "\"db.example\"",
            "t:3:13: services.postgres.backends[0].ip: \"db.example\" is not an IPv4 address",
        ),
        (
            "\"247.221.80.48\"",
            "\"fe80::1\"",
            "t:3:13: services.postgres.backends[0].ip: \"fe80::1\" is an IPv6 address",
        ),
        (
            "\"247.221.80.52\"",
            "\"247.221.80.52:5432\"",
            "t:3:30: services.postgres.backends[1].ip: \"247.221.80.52:5432\" is not an IPv4 address",
        ),
        ("port = 6380", "port = 0", "t:6:44: services.redis.backends[0].port: port 0"),
        ("port = 6379", "port = 70000", "t:25:8: apps.shop.relationships.cache.port: port 70000"),
        ("port = 6379", "port = -1", "t:25:8: apps.shop.relationships.cache.port: port -1"),
        (
            "port = 6379",
            "port = \"a\"",
            "t:25:8: apps.shop.relationships.cache.port: invalid type: a string, expected a whole number",
        ),
        (
            "select = \"random\"",
            "select = \"randon\"",
            "t:10:10: services.empty.select: \"randon\" is not a choice here",
        ),
        (
            "udp-pinning = \"strict\"",
            "udp-pinning = \"loose\"",
            "t:11:15: services.empty.udp-pinning: \"loose\" is not a choice here",
        ),
        (
            "on-backend-removed = \"drain\"",
            "on-backend-removed = \"drop\"",
            "t:12:22: services.empty.on-backend-removed: \"drop\" is not a choice here",
        ),
        (
            "on-backend-removed = \"drain\"",
            "on-backend-removed = \"kill\"",
            "t:13:17: services.empty.drain-seconds: a time to drain, where nothing drains",
        ),
        (
            "on-backend-removed = \"drain\"\n",
            "",
            "t:12:17: services.empty.drain-seconds: a time to drain, where nothing drains",
        ),
        (
            "drain-seconds = 300",
            "drain-seconds = 0",
            "t:13:17: services.empty.drain-seconds: 0 sec",
        ),
        ("drain-seconds = 300", "drain-seconds = 86401", "services.empty.drain-seconds: 86401 sec"),
        ("drain-seconds = 300", "drain-seconds = -1", "services.empty.drain-seconds: -1 seconds"),
        ("weight = 2", "weight = 0", "t:6:59: services.redis.backends[0].weight: weight 0"),
        (
            "169.254.17.140",
            "169.253.17.140",
            "t:24:7: apps.shop.relationships.cache.vip: VIP 169.253.17.140 is outside 169.254.0.0/16",
        ),
        (
            "169.254.17.140",
            "169.254.169.254",
            "t:24:7: apps.shop.relationships.cache.vip: VIP 169.254.169.254 belongs to instance",
        ),
        ("169.254.17.140", "169.254.0.0", "VIP 169.254.0.0 belongs to the network itself (its"),
        ("169.254.17.140", "169.254.255.255", "VIP 169.254.255.255 belongs to the network"),
        ("169.254.17.140", "169.254.170.2", "VIP 169.254.170.2 belongs to credentials and"),
        ("169.254.17.140", "169.254.20.10", "VIP 169.254.20.10 belongs to node-local DNS"),
        ("169.254.17.140", "169.254.25.10", "VIP 169.254.25.10 belongs to node-local DNS"),
        (
            "169.254.17.140",
            "169.254.37.209",
            "t:18:26: apps.shop.relationships.db: relationships \"cache\" and \"db\" have the same VIP 169.254.37.209",
        ),
        (
            "\"247.221.80.48\"",
            "\"169.254.37.209\"",
            "t:3:13: services.postgres.backends[0].ip: backend 169.254.37.209 is in the range of VIPs",
        ),
        ("\"247.221.80.48\"", "\"224.0.0.1\"", "backend 224.0.0.1 is a multicast address"),
        ("\"247.221.80.48\"", "\"239.255.255.255\"", "backend 239.255.255.255 is a multicast"),
        ("\"247.221.80.48\"", "\"0.0.0.0\"", "backend 0.0.0.0 is in 0.0.0.0/8"),
        ("\"247.221.80.48\"", "\"255.255.255.255\"", "backend 255.255.255.255 is the broadcast"),
        (
            "\"247.221.80.52\"",
            "\"247.221.80.48\"",
            "t:3:30: services.postgres.backends[1]: backend 247.221.80.48 is listed twice",
        ),
        (
            "/sys/fs/cgroup/blog/./a",
            "shop.slice//shop",
            "apps.shop.cgroup: apps \"blog\" and \"shop\" have the same cgroup",
        ),
        (
            "shop.slice/shop",
            "../shop",
            "t:16:10: apps.shop.cgroup: cgroup \"../shop\" is not below",
        ),
        (
            "shop.slice/shop",
            "/sys/fs/cgroup/../x",
            "is not below the cgroup v2 mount /sys/fs/cgroup",
        ),
        ("shop.slice/shop", "/etc", "t:16:10: apps.shop.cgroup: cgroup \"/etc\" is not below"),
        ("shop.slice/shop", "/sys/fs/cgroup", "cgroup \"/sys/fs/cgroup\" is the whole machine"),
        ("shop.slice/shop", "", "cgroup \"\" is the whole machine"),
        ("shop.slice/shop", "a\\u0000b", "a cgroup path with a zero byte"),
        ("[apps.blog]", "[apps.shop]", "t:28:7: duplicate key"),
        (
            "protocol = \"tcp\"",
            "protocol = \"icmp\"",
            "t:26:12: apps.shop.relationships.cache.protocol: protocol \"icmp\"",
        ),
        ("path = \"main\"", "ip = \"1.2.3.4\"", "the endpoint sets \"ip\", which vipnat fills in"),
        ("[apps.blog]", "[apps.\"a b\"]", "t:28:7: apps.a b: white space"),
        ("[apps.blog]", "[apps.\"\"]", "an empty name"),
        ("path = \"main\"", "path = inf", "inf is no JSON number"),
        (
            "endpoint = { scheme = \"pgsql\", port = 5432, path = \"main\" }",
            "endpoint = 7",
            "apps.shop.relationships.db.endpoint: invalid type: a number, expected a table",
        ),
        ("backends = []", "", "t:8:1: services.empty: missing field `backends`"),
        (
            "backends = []",
            "backends = 7",
            "services.empty.backends: invalid type: a number, expected a",
        ),
        (
            "[services.empty]\nbackends = []",
            "[services]\nempty = 7",
            "expected a table with `backends`",
        ),
        ("service = \"redis\"", "endpoint = 7", "apps.shop.relationships.cache"),
        ("backends = []", "backends = [7]", "an IPv4 address in quotes"),
        (
            "backends = []",
            "backends = [{ port = 1 }]",
            "services.empty.backends[0]: missing field `ip`",
        ),
    ];
    for (part, instead, expected) in cases {
        assert!(GOOD.contains(part), "{part}");
        let error = parse(&GOOD.replacen(part, instead, 1)).unwrap_err().to_string();
        assert!(error.contains(expected), "{part} -> {instead}:\n{error}\nexpected: {expected}");
        assert!(error.lines().count() >= 2, "says what to do: {error}");
    }
}

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

/// The first two are in public examples of a platform's own values.
#[test]
fn a_vip_may_be_asked_for_among_addresses_that_names_are_not_given() {
    for vip in ["169.254.169.232", "169.254.255.221", "169.254.170.3", "169.254.0.1"] {
        let table = parse(&GOOD.replace("169.254.17.140", vip)).unwrap();
        assert_eq!(table.apps["shop"].relationships["cache"].vip.to_string(), vip);
    }
}

/// A VIP never changes: what names are given was decided before these addresses were known.
#[test]
fn what_a_name_is_given_stays_its_vip() {
    let known: Ipv4Addr = [169, 254, 25, 10].into();
    let name = (0..).map(|i| format!("n{i}")).find(|name| vip_of(name) == known).unwrap();
    let named = GOOD.replace(".cache]", &format!(".{name}]"));
    for vip in ["vip = \"169.254.25.10\"", ""] {
        let table = parse(&named.replace("vip = \"169.254.17.140\"", vip)).unwrap();
        assert_eq!(table.apps["shop"].relationships[name.as_str()].vip, known);
    }
}

#[test]
fn a_round_too_long_is_refused_before_it_is_made() {
    let backends: Vec<_> =
        (0..100).map(|i| format!("{{ ip = \"240.0.0.{i}\", weight = {} }}", 255 + i % 2)).collect();
    let text = GOOD.replace("backends = []", &format!("backends = [{}]", backends.join(", ")));
    let error = parse(&text).unwrap_err().to_string();
    assert!(
        error.starts_with("t:9:12: services.empty.backends: the weights make 25550 turns"),
        "{error}"
    );
}

#[test]
fn endpoints_are_json_of_what_was_written() {
    let text = GOOD.replace("path = \"main\"", "since = 2024-01-02, list = [1, 2.5, true]");
    let endpoint = &parse(&text).unwrap().apps["shop"].relationships["db"].endpoint;
    assert_eq!(endpoint["since"], "2024-01-02");
    assert_eq!(endpoint["list"], serde_json::json!([1, 2.5, true]));
    let json = r#"{"services": {"s": {"backends": []}}, "apps": {"a": {"cgroup": "a",
        "relationships": {"r": {"service": "s", "endpoint": {"password": null, "x": 1}}}}}}"#;
    let endpoint = &parse(json).unwrap().apps["a"].relationships["r"].endpoint;
    assert_eq!(endpoint["password"], Value::Null);
    let error = parse(&json.replace("\"x\"", "\"password\"")).unwrap_err().to_string();
    assert!(error.contains("duplicate key \"password\""), "{error}");
}

/// Private keys of the readers are keys like any other where somebody writes them.
#[test]
fn numbers_and_objects_of_json_are_what_was_written() {
    for value in [
        "123456789012345678901234567890",
        "-0",
        "1.0",
        "1e+400",
        "{\"$serde_json::private::Number\":\"12\"}",
        "{\"$serde_json::private::Number\":[1,null],\"x\":2}",
        "{\"$__toml_private_datetime\":\"2024-01-02\"}",
        "{\"$__toml_private_datetime\":{\"a\":1.50}}",
    ] {
        let json = format!(
            r#"{{"services": {{"s": {{"backends": []}}}}, "apps": {{"a": {{"cgroup": "a",
            "relationships": {{"r": {{"service": "s", "endpoint": {{"x": {value}}}}}}}}}}}}}"#
        );
        let endpoint = &parse(&json).unwrap().apps["a"].relationships["r"].endpoint;
        assert_eq!(endpoint["x"].to_string(), value);
    }
    let twice = "{\"$serde_json::private::Number\": \"1\", \"$serde_json::private::Number\": 2}";
    let json =
        r#"{"apps": {"a": {"relationships": {"r": {"service": "s", "endpoint": {"x": X}}}}}}"#;
    let error = parse(&json.replace("X", twice)).unwrap_err().to_string();
    assert!(error.contains("duplicate key"), "{error}");
}

/// One that was too large was repeated in the message, though endpoints may hold secrets.
#[test]
fn a_number_of_an_endpoint_in_toml_survives_or_is_refused_without_being_repeated() {
    let toml = |number: &str| GOOD.replace("path = \"main\"", &format!("id = {number}"));
    for number in ["9223372036854775808", "-12345678901234567890", "123456789012345678901234567890"]
    {
        let table = parse(&toml(number)).unwrap();
        let endpoint = &table.apps["shop"].relationships["db"].endpoint;
        assert_eq!(endpoint["id"].to_string(), number);
    }
    for number in ["1234567890123456789012345678901234567890123", "1e400"] {
        let error = parse(&toml(number)).unwrap_err().to_string();
        assert!(error.starts_with("t:20:50: apps.shop.relationships.db.endpoint.id: "), "{error}");
        assert!(error.contains("a table in JSON can have any"), "{error}");
        assert!(!error.contains(number), "{error}");
    }
}

#[test]
fn a_number_where_json_should_have_something_else_is_called_one() {
    for (json, expected) in [
        (r#"{"services": {"s": {"backends": [N]}}}"#, "expected an IPv4 address in quotes, or"),
        (r#"{"services": {"s": N}}"#, "expected a table with `backends`"),
        (r#"{"apps": {"a": {"cgroup": N}}}"#, "expected a string"),
        (r#"{"apps": {"a": {"relationships": {"r": N}}}}"#, "expected a table with `service`, or"),
        (r#"{"apps": {"a": {"relationships": {"r": [N]}}}}"#, "expected a table with `service`"),
    ] {
        for number in ["7", "1.5", "1e999"] {
            let error = parse(&json.replace('N', number)).unwrap_err().to_string();
            let expected = format!("invalid type: a number, {expected}");
            assert!(error.contains(&expected), "{error}\nexpected: {expected}");
            assert!(!error.contains("private"), "{error}");
        }
    }
    for port in ["1.5", "1e5", "123456789012345678901234567890"] {
        let json = r#"{"services": {"s": {"backends": [{"ip": "1.2.3.4", "port": N}]}}}"#;
        let error = parse(&json.replace('N', port)).unwrap_err().to_string();
        assert!(error.contains("expected a whole number"), "{error}");
    }
}

#[test]
fn a_byte_order_mark_is_ignored() {
    assert_eq!(parse(&format!("\u{feff}{GOOD}")).unwrap(), parse(GOOD).unwrap());
    let json = r#"{"apps": {"a": {"cgroup": "a"}}}"#;
    assert_eq!(parse(&format!("\u{feff}{json}")).unwrap(), parse(json).unwrap());
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = GOOD.replace("247.221.80.48", "0.0.0.0").replace("6379", "0").replace("tcp", "x");
    assert_eq!(parse(&text).unwrap_err().problems().len(), 3);
}

/// Reading the text again for the place of each of 18,000 problems took 43 seconds.
#[test]
fn a_table_wrong_in_thousands_of_places_shows_twenty() {
    let mut text = String::from("[services.s]\nbackends = []\n[apps.a]\ncgroup = \"a\"\n");
    for i in 0..500 {
        text += &format!("[apps.a.relationships.r{i}]\nservice = \"s\"\nvip = \"10.0.0.1\"\n");
    }
    let error = parse(&text).unwrap_err();
    assert_eq!(error.problems().len(), 20);
    let lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 41);
    assert_eq!(lines[40], "t: and 480 more problems");
    assert!(
        lines[0].starts_with("t:7:7: apps.a.relationships.r0.vip: VIP 10.0.0.1"),
        "{}",
        lines[0]
    );
}

#[test]
fn positions_in_json() {
    let cases = [
        (r#"{"apps": {}"#, "t:1:11: EOF while parsing"),
        ("{\n \"services\": {},\n \"app\": {}}", "t:3:6: app: unknown field `app`"),
        ("{\n \"apps\": {\"a\": {\"cgroup\": \"/etc\"}}}", "t:2:27: apps.a.cgroup: cgroup"),
        (
            "{\"services\": {\"s\": {\"backends\": [\"1.2.3.4\",\n {\"ip\": \"x\"}]}}}",
            "t:2:9: services.s.backends[1].ip: \"x\" is not",
        ),
        (r#"{"apps": {"a": {"cgroup": "x"}, "a": {"cgroup": "y"}}}"#, "duplicate"),
    ];
    for (text, expected) in cases {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}:\n{error}\nexpected: {expected}");
    }
}

#[test]
fn an_empty_table_is_not_a_flush() {
    for text in ["", "\n# nothing\n", "{}", "[services.a]\nbackends = []"] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("the table has no apps") && error.contains("flush"), "{error}");
    }
}

#[test]
fn binary_garbage_is_refused_with_its_place() {
    let error = parse_bytes(b"[services.a]\nb\xff\xfe\x00").unwrap_err().to_string();
    assert!(error.starts_with("t:2:2: not UTF-8 text"), "{error}");
    let error = parse_bytes(b"\x7fELF\x02\x01\x01\x00").unwrap_err().to_string();
    assert!(error.starts_with("t:1:"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_input_panics(bytes: Vec<u8>) {
        let _ = parse_bytes(&bytes);
    }

    /// Damage in the middle of something that looks like a table reaches further.
    #[test]
    fn no_damaged_table_panics(
        at in 0..GOOD.len(), len in 0..40usize, with in ".{0,12}", json: bool,
    ) {
        let value: toml::Value = toml::from_str(GOOD).unwrap();
        let good = if json { value_to_json(&value) } else { GOOD.to_owned() };
        let at = good.floor_char_boundary(at.min(good.len()));
        let end = good.floor_char_boundary((at + len).min(good.len()));
        let text = format!("{}{with}{}", &good[..at], &good[end..]);
        if let Err(error) = parse(&text) {
            proptest::prop_assert!(!error.to_string().is_empty());
        }
    }
}

fn value_to_json(value: &toml::Value) -> String {
    serde_json::to_string(value).unwrap()
}
