//! Tables that are accepted, and the values that they are read as.

use std::{net::Ipv4Addr, num::NonZeroU16, path::Path};

use serde_json::Value;
use vipnat_common::Protocol;

use super::fixture::{GOOD, parse};
use crate::table::{Cgroups, OnBackendRemoved, Select, UdpPinning, vip_of};

#[test]
fn a_good_table() {
    let table = parse(GOOD).unwrap();
    let shop = &table.apps["shop"];
    let cgroup = shop.cgroup.as_ref().and_then(Cgroups::path);
    assert_eq!(cgroup.as_deref(), Some(Path::new("shop.slice/shop")));
    let cgroup = table.apps["blog"].cgroup.as_ref().and_then(Cgroups::path);
    assert_eq!(cgroup.as_deref(), Some(Path::new("blog/a")));
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

/// Public examples of a platform's own values contain the first two.
#[test]
fn a_vip_may_be_asked_for_among_addresses_that_names_are_not_given() {
    for vip in ["169.254.169.232", "169.254.255.221", "169.254.170.3", "169.254.0.1"] {
        let table = parse(&GOOD.replace("169.254.17.140", vip)).unwrap();
        assert_eq!(table.apps["shop"].relationships["cache"].vip.to_string(), vip);
    }
}

/// The VIP of a name never changes, even if its address became well known later.
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

/// If a document contains a private key of the readers, it is a key like any other.
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

#[test]
fn a_byte_order_mark_is_ignored() {
    assert_eq!(parse(&format!("\u{feff}{GOOD}")).unwrap(), parse(GOOD).unwrap());
    let json = r#"{"apps": {"a": {"cgroup": "a"}}}"#;
    assert_eq!(parse(&format!("\u{feff}{json}")).unwrap(), parse(json).unwrap());
}
