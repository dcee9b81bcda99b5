//! No input makes the reader panic.

use super::fixture::{GOOD, parse, parse_bytes, value_to_json};

proptest::proptest! {
    #[test]
    fn no_input_panics(bytes: Vec<u8>) {
        let _ = parse_bytes(&bytes);
    }

    /// Damage in the middle of a valid table gets further than random bytes.
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
