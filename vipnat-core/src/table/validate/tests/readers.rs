//! The quick reader and the reader that finds the place of an error accept the same texts.

use super::fixture::{GOOD, parse, value_to_json};
use crate::table::parse::raw;

/// The table as both readers read it, in debug format; `None` if both refuse the text.
fn agreed(text: &str, json: bool) -> Option<String> {
    let (quick, careful) = if json {
        let mut document = serde_json::Deserializer::from_str(text);
        let careful: Result<raw::Table<'_, true>, _> =
            serde_path_to_error::deserialize(&mut document);
        let careful = careful.ok().filter(|_| document.end().is_ok());
        let quick = serde_json::from_str::<raw::Table<'_>>(text).ok();
        (quick.map(|table| format!("{table:?}")), careful.map(|table| format!("{table:?}")))
    } else {
        let document = || toml::Deserializer::parse(text).ok();
        let careful: Option<raw::Table<'_, true>> =
            document().and_then(|document| serde_path_to_error::deserialize(document).ok());
        let quick: Option<raw::Table<'_>> =
            document().and_then(|document| serde::Deserialize::deserialize(document).ok());
        (quick.map(|table| format!("{table:?}")), careful.map(|table| format!("{table:?}")))
    };
    assert_eq!(quick, careful, "{text}");
    quick
}

fn good(json: bool) -> String {
    if json { value_to_json(&toml::from_str(GOOD).unwrap()) } else { GOOD.to_owned() }
}

#[test]
fn a_good_table_and_the_same_with_escapes() {
    let toml = agreed(&good(false), false).unwrap();
    assert!(toml.contains("247.221.80.48"), "{toml}");
    agreed(&GOOD.replace("[apps.shop.", "[apps.\"sh\\u006fp\"."), false).unwrap();
    let json = good(true);
    let read = agreed(&json, true).unwrap();
    let escaped = json.replace("247", "\\u0032\\u00347").replace("db", "\\u0064b");
    assert_eq!(agreed(&escaped, true), Some(read));
    assert_eq!(parse(&escaped).unwrap(), parse(GOOD).unwrap());
}

#[test]
fn the_second_of_two_names_is_told_where_it_stands() {
    for (text, expected) in [
        (
            "{\"services\": {\"s\": {\"backends\": []}, \"t\": {\"backends\": []},\n\
             \"s\": {\"backends\": []}, \"r\": {\"backends\": []}}}",
            "t:2:21: services: invalid entry: found duplicate key",
        ),
        (
            "{\"apps\": {\"a\": {},\n\"\\u0061\": {}, \"b\": {}}}",
            "t:2:12: apps: invalid entry: found duplicate key",
        ),
        (
            "{\"apps\": {\"a\": {\"relationships\": {\"b\": {\"service\": \"s\"},\n\
             \"a\": {\"service\": \"s\"},\n\"b\": {\"service\": \"s\"}}}}}",
            "t:3:22: apps.a.relationships: invalid entry: found duplicate key",
        ),
    ] {
        assert_eq!(agreed(text, true), None);
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\nexpected: {expected}");
    }
}

proptest::proptest! {
    #[test]
    fn a_damaged_table(
        at in 0..GOOD.len(), len in 0..40_usize, with in r#"[\[\]{}"=':,.\\\n0-9a-z]{0,8}"#, json: bool,
    ) {
        let good = good(json);
        let (at, end) = (at.min(good.len()), (at + len).min(good.len()));
        agreed(&format!("{}{with}{}", &good[..at], &good[end..]), json);
    }

    /// This also makes names appear twice.
    #[test]
    fn a_table_with_a_part_of_itself_in_another_place(
        from in 0..GOOD.len(), len in 0..150_usize, to in 0..GOOD.len(), json: bool,
    ) {
        let good = good(json);
        let (from, end) = (from.min(good.len()), (from + len).min(good.len()));
        let to = to.min(good.len());
        agreed(&format!("{}{}{}", &good[..to], &good[from..end], &good[to..]), json);
    }
}
