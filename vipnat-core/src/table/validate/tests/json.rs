//! Tests numbers, types and positions in JSON tables, and numbers in TOML.

use super::fixture::{GOOD, parse};

/// A message once repeated a number that was too large, although endpoints may hold secrets.
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
