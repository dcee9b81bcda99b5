//! Escapes text from outside before it goes to a terminal or a journal.
//!
//! Names of cgroups, tables, rules and variables come from other people. Control characters,
//! bidirectional characters and those without a width could move the cursor, fake lines of vipnat, or
//! make one name look like another. So:
//!
//! | to print | use |
//! | --- | --- |
//! | text on one line | [`shown`] |
//! | text of several lines | [`shown_lines`] |
//! | the name of a file or cgroup, which may not be UTF-8 | [`shown_name`] |
//! | a wrong value of a table | [`quoted`], which hides passwords |
//! | a key or name of a table | [`shown_key`], which hides passwords |
//! | JSON or TOML that a program may read | [`shown_json`], [`shown_toml`], which keep the meaning |
//! | a number of things | [`count`] |

use std::{
    borrow::Cow, cmp::Ordering, ffi::OsStr, fmt::Write as _, os::unix::ffi::OsStrExt as _,
    sync::LazyLock,
};

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// Characters to escape: control, format, surrogate, private-use and unassigned characters, white space
/// except U+0020, and default-ignorable characters, such as U+3164, a letter that is invisible.
static UNPRINTABLE: LazyLock<ClassUnicode> = LazyLock::new(|| {
    let class = r"[\p{C}[\p{Z}--\x20]\p{Default_Ignorable_Code_Point}]";
    match regex_syntax::parse(class).map(regex_syntax::hir::Hir::into_kind) {
        Ok(HirKind::Class(Class::Unicode(class))) => class,
        other => panic!("{class} is a class of characters, not {other:?}"),
    }
});

/// The longest text that is shown whole, in bytes. Longer texts lose their middle, since an error names the
/// mistake at its beginning and the remedy at its end.
const LONGEST: usize = 2000;
/// The number of bytes of a longer text that are shown at its end.
const END: usize = 400;

/// Words in the keys of secrets.
const SECRET: [&str; 8] =
    ["password", "passwd", "passphrase", "pwd", "secret", "token", "credential", "private_key"];

/// The largest part of a value that a message repeats, in characters.
const LONGEST_VALUE: usize = 100;

/// Text for one line: escapes characters that are not visible, as `\n` or `\u{202e}`, and shortens long text.
pub fn shown(text: &str) -> Cow<'_, str> {
    let text = shortened(text, LONGEST, END);
    match escaped(&text, |_| false) {
        Cow::Owned(text) => text.into(),
        Cow::Borrowed(_) => text,
    }
}

/// The name of a file or cgroup for one line: like [`shown`], and `\xff` for a byte that is not UTF-8.
pub fn shown_name(name: impl AsRef<OsStr>) -> String {
    let mut text = String::new();
    for chunk in name.as_ref().as_bytes().utf8_chunks() {
        text += &escaped(chunk.valid(), |_| false);
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    shortened(&text, LONGEST, END).into_owned()
}

/// Text of several lines: escapes like [`shown`], but keeps line breaks.
///
/// Put text from outside through [`shown`] before it becomes part of a line; otherwise it could add lines.
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n')
}

/// A wrong value in quotes, for a message. Hides a value that may hold a password.
pub fn quoted(value: &str) -> String {
    if may_be_secret(value) {
        return "this text (not repeated, since it may hold a password)".to_owned();
    }
    let start: String = value.chars().take(LONGEST_VALUE).collect();
    let quoted = escaped(&format!("{start:?}"), |_| false).into_owned();
    match value.len() - start.len() {
        0 => quoted,
        more => format!("{quoted} and {more} more bytes"),
    }
}

/// A key or name for one line: like [`shown`], but `…` for a connection string in its place.
pub fn shown_key(key: &str) -> Cow<'_, str> {
    if may_be_secret(key) { "…".into() } else { shown(key) }
}

/// Whether a text may hold a password: `user:password@host`, in a URL or not, or `password=…`.
/// Other texts with `@` or `=`, such as `container@shop.service`, count as names.
pub fn may_be_secret(text: &str) -> bool {
    let user = text.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    let of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let named = |(end, _): (usize, &str)| {
        let before = text[..end].trim_end_matches(|c| !of_word(c));
        before.rsplit(|c| !of_word(c)).next().is_some_and(names_a_secret)
    };
    user || text.match_indices(['=', ':']).any(named)
}

/// Whether a key names a secret, such as `password` or `db-token`.
pub fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key == "pass" || SECRET.iter().any(|word| key.contains(word))
}

/// Whether [`shown`] would escape nothing in a text.
pub fn is_printable(text: &str) -> bool {
    text.chars().all(is_seen)
}

/// Escapes invisible characters of a JSON document by JSON's own escapes, so that it keeps its meaning.
pub fn shown_json(json: &str) -> Cow<'_, str> {
    let escape = |c: char, escape: &mut String| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(escape, "\\u{unit:04x}");
        }
    };
    escaped_by(json, |c| c == '\n', escape)
}

/// Escapes invisible characters of a TOML document whose strings are all basic strings.
pub fn shown_toml(toml: &str) -> Cow<'_, str> {
    let escape = |c: char, escape: &mut String| {
        let _ = match u32::from(c) {
            short @ ..=0xffff => write!(escape, "\\u{short:04x}"),
            long => write!(escape, "\\U{long:08x}"),
        };
    };
    escaped_by(toml, |c| c == '\n', escape)
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    escaped_by(text, keep, |c, escaped| {
        let _ = write!(escaped, "{}", c.escape_default());
    })
}

fn escaped_by(
    text: &str,
    keep: impl Fn(char) -> bool,
    escape: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    let bad = |c: char| !is_seen(c) && !keep(c);
    let Some(first) = text.find(bad) else {
        return text.into();
    };
    let (good, rest) = text.split_at(first);
    let mut escaped = good.to_owned();
    for c in rest.chars() {
        if bad(c) {
            escape(c, &mut escaped);
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

/// Whether a character is visible, or a space.
fn is_seen(c: char) -> bool {
    // Most characters are ASCII, and need no table.
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    let place = |range: &ClassUnicodeRange| {
        if range.end() < c {
            Ordering::Less
        } else if range.start() > c {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    };
    UNPRINTABLE.ranges().binary_search_by(place).is_err()
}

/// Cuts the middle out of a long text.
fn shortened(text: &str, longest: usize, end: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return text.into();
    }
    let (start, rest) = text.split_at(text.floor_char_boundary(longest - end));
    let (left_out, last) = rest.split_at(rest.ceil_char_boundary(rest.len() - end));
    format!("{start} … ({} bytes left out) … {last}", left_out.len()).into()
}

/// A number with its noun: `1 app`, `2 apps`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_seen_as_itself_is_escaped() {
        for (text, expected) in [
            ("shop.slice/shop-1", "shop.slice/shop-1"),
            ("Bücher 日本", "Bücher 日本"),
            ("a\x1b[31mb", "a\\u{1b}[31mb"),
            ("bell\x07", "bell\\u{7}"),
            ("two\nlines\r\t", "two\\nlines\\r\\t"),
            ("\u{202e}rtl\u{2066}", "\\u{202e}rtl\\u{2066}"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("soft\u{ad}hyphen, filler \u{3164}", "soft\\u{ad}hyphen, filler \\u{3164}"),
            ("tag\u{e0041} variation\u{fe0f}", "tag\\u{e0041} variation\\u{fe0f}"),
            ("no-break\u{a0}space\u{2028}", "no-break\\u{a0}space\\u{2028}"),
            ("\u{9b}31m", "\\u{9b}31m"),
        ] {
            assert_eq!(shown(text), expected);
            assert_eq!(is_printable(text), text == expected, "{text:?}");
        }
        assert_eq!(shown_lines("a\x07\nb\u{200b}"), "a\\u{7}\nb\\u{200b}");
        assert_eq!(shown_name(OsStr::from_bytes(b"a\xff\n\xc3\xa9")), "a\\xff\\né");
    }

    #[test]
    fn a_long_text_keeps_its_ends() {
        let long = format!("unknown field `{}`, expected one of `ip`", "é".repeat(1 << 20));
        let text = shown(&long);
        assert!(text.len() < LONGEST + 100);
        assert!(text.starts_with("unknown field `é") && text.ends_with("`, expected one of `ip`"));
        assert!(text.contains("bytes left out"), "{text}");
        assert_eq!(
            quoted(&"x".repeat(1000)),
            format!("\"{}\" and 900 more bytes", "x".repeat(100))
        );
    }

    #[test]
    fn a_connection_string_is_not_repeated() {
        for secret in [
            "pgsql://main:s3cret@db",
            "redis://:s3cret@db/0",
            "main:s3cret@db.internal",
            "main:s3@cret@db:5432",
            "password=s3cret",
            "host=db PASSWORD = s3cret",
            "host=db;Pwd=s3cret",
            "https://db/?auth_token=s3cret",
            "jdbc:db://db?user=main&db-secret=s3cret",
            "{\"password\": \"s3cret\"}",
            "pass=s3cret",
        ] {
            let said = quoted(secret);
            assert!(!said.contains("s3cret") && !said.contains("cret@"), "{said}");
            assert_eq!(shown_key(secret), "…");
        }
        assert_eq!(quoted("postgre"), "\"postgre\"");
        assert_eq!(quoted("a\"\n\u{3164}"), "\"a\\\"\\n\\u{3164}\"");
    }

    /// Messages once hid any name that contained `@`, `=` or `://`.
    #[test]
    fn names_that_hold_no_password_are_repeated() {
        for name in [
            "container@shop.service",
            "shop@prod",
            "a=b",
            "@",
            "main@db:5432",
            "http://db.internal/x",
            "tokens",
            "bypass=1",
            "system.slice/container@shop.service:7",
        ] {
            assert_eq!(quoted(name), format!("{name:?}"));
            assert_eq!(shown_key(name), name);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_printable_and_on_one_line(text in any::<String>()) {
            prop_assert!(is_printable(&shown(&text)));
            prop_assert!(is_printable(&shown_name(&text)));
            prop_assert!(is_printable(&quoted(&text)));
            prop_assert!(shown_lines(&text).lines().all(is_printable));
        }

        #[test]
        fn json_says_the_same(value in any::<String>()) {
            let json = serde_json::to_string_pretty(&[&value]).unwrap();
            let shown = shown_json(&json);
            prop_assert!(shown.lines().all(is_printable));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [value]);
        }
    }
}
