//! Tables that are refused: each mistake with its place, its object and its reason.

use super::fixture::{GOOD, parse, parse_bytes};

/// Each case replaces one part of the good table, and has the expected message.
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
            "t:13:17: services.empty.drain-seconds: `drain-seconds` needs on-backend-removed",
        ),
        (
            "on-backend-removed = \"drain\"\n",
            "",
            "t:12:17: services.empty.drain-seconds: `drain-seconds` needs on-backend-removed",
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
