//! No error contains the values of endpoints.

use super::fixture::{GOOD, parse, value_to_json};

const SECRET: &str = "s3cret-hunter2";

/// The good table with a password in an endpoint.
fn with_password(json: bool) -> String {
    let text = GOOD.replace("path = \"main\"", &format!("password = \"{SECRET}\""));
    assert_ne!(text, GOOD);
    if json { value_to_json(&toml::from_str(&text).unwrap()) } else { text }
}

#[test]
fn a_connection_string_in_the_wrong_place_is_not_repeated() {
    let url = format!("\"pgsql://main:{SECRET}@db.internal/\\\"main\"");
    let url = url.as_str();
    let endpoint = "endpoint = { scheme = \"pgsql\", port = 5432, path = \"main\" }";
    for (part, key) in [
        (endpoint, "endpoint = "),
        ("port = 6379", "port = "),
        (
            "[apps.shop.relationships.db]\nservice = \"postgres\"",
            "[apps.shop.relationships]\ndb = ",
        ),
        ("[apps.shop]", "[apps]\nshop = "),
        ("backends = []", "backends = "),
        ("\"247.221.80.48\"", ""),
        ("\"247.221.80.70\"", ""),
        ("\"169.254.17.140\"", ""),
        ("weight = 2", "weight = "),
        // Messages once repeated these, as names of a service and of a protocol that do not exist.
        ("service = \"postgres\"", "service = "),
        ("\"tcp\"", ""),
        ("\"random\"", ""),
        ("\"strict\"", ""),
        ("\"drain\"", ""),
        ("\"shop.slice/shop\"", &format!("\"/pgsql://main:{SECRET}@db\"")),
        ("\"shop.slice/shop\"", &format!("\"pgsql://main:{SECRET}@db/[a\"")),
        // As keys: an unknown key, keys of tables that contain a mistake, a key that appears twice.
        ("port = 6379", &format!("{url} = 1 #")),
        ("services.empty]\nbackends = []", &format!("services.{url}]\nbackends = [\"x\"]\nx =")),
        ("services.empty]\nbackends", &format!("services.{url}]\nbackends = [\"x\"]\n#")),
        ("[apps.blog]", &format!("[apps.{url}]\nrelationships = {{ a = {{ service = \"x\" }} }}")),
        ("[apps.blog]", &format!("[apps.{url}]\nrelationships.a.port = 1")),
        ("path = \"main\"", &format!("{url} = 1, {url} = 2")),
        (
            "[apps.blog]",
            &format!(
                "[apps.shop.relationships.{url}]\nservice = \"redis\"\nvip = \"169.254.17.140\"\n[apps.blog]"
            ),
        ),
        ("[apps.blog]", &format!("[apps.{url}]\ncgroup = \"shop.slice/shop\"\n[apps.blog]")),
    ] {
        let whole = if key.contains(SECRET) { key.to_owned() } else { format!("{key}{url}") };
        let text = GOOD.replacen(part, &whole, 1);
        assert_ne!(text, GOOD, "{part}");
        let error = parse(&text).unwrap_err().to_string();
        assert!(!error.contains(SECRET), "{part}: {error}");
    }
}

/// The message about a missing service once listed such names of services. Another one repeated a number.
#[test]
fn what_looks_like_a_password_is_not_repeated_beside_the_mistake() {
    let url = format!("pgsql://main:{SECRET}@db");
    for (part, with, said) in [
        ("services.empty]", format!("services.\"{url}\"]"), "or use one that exists: …, postgres"),
        ("\"247.221.80.71\"", "12345678".to_owned(), "a number, expected an IPv4"),
        ("service = \"redis\"", "service = 12345678".to_owned(), "a number, expected a string"),
        ("port = 6379", "port = 12345678.5".to_owned(), "a number, expected a whole number"),
        ("port = 6379", "port = true".to_owned(), "a boolean, expected a whole number"),
    ] {
        let text =
            GOOD.replacen(part, &with, 1).replacen("service = \"postgres\"", "service = \"x\"", 1);
        assert!(text.contains(&with), "{part}");
        for json in [false, true] {
            let text =
                if json { value_to_json(&toml::from_str(&text).unwrap()) } else { text.clone() };
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{said} in {error}");
            assert!(!error.contains(SECRET) && !error.contains("12345678"), "{error}");
        }
    }
}

/// Any `@` or `=` once hid the name, so the message did not show which app it was about.
#[test]
fn a_name_that_holds_no_password_is_said() {
    for name in ["container@shop.service", "shop@prod", "a=b"] {
        let text = GOOD
            .replace("[apps.shop", &format!("[apps.{name:?}"))
            .replace("cgroup = \"shop.slice/shop\"", &format!("cgroup = \"../{name}\""));
        let error = parse(&text).unwrap_err().to_string();
        assert!(
            error.contains(&format!(": apps.{name}.cgroup: cgroup \"../{name}\" is")),
            "{error}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_damage_makes_an_error_tell_a_secret(
        at in 0..600_usize, len in 0..40_usize, with in r#"[\[\]{}"=':,.\n0-9a-z]{0,8}"#, json: bool,
    ) {
        let good = with_password(json);
        let at = at.min(good.len());
        let end = (at + len).min(good.len());
        let text = format!("{}{with}{}", &good[..at], &good[end..]);
        if let Err(error) = parse(&text) {
            proptest::prop_assert!(!error.to_string().contains("s3cret"), "{}", error);
        }
    }
}
