//! Text from outside, on its way to a terminal or a journal.
//!
//! Whoever owns a delegated cgroup chooses its name, and tables, rules and values of variables come from
//! anywhere. Printed as they are, control characters, bidirectional ones and those without a width could
//! move the cursor, add lines that vipnat never said, or show another name than the one that is meant.

use std::{
    borrow::Cow, cmp::Ordering, ffi::OsStr, fmt::Write as _, os::unix::ffi::OsStrExt as _,
    sync::LazyLock,
};

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// All that is not seen as itself: control, format, surrogate, private and unassigned characters, white
/// space but for U+0020, and what Unicode calls ignorable by default, such as U+3164, a letter that is
/// not shown.
static UNPRINTABLE: LazyLock<ClassUnicode> = LazyLock::new(|| {
    let class = r"[\p{C}[\p{Z}--\x20]\p{Default_Ignorable_Code_Point}]";
    match regex_syntax::parse(class).map(regex_syntax::hir::Hir::into_kind) {
        Ok(HirKind::Class(Class::Unicode(class))) => class,
        other => panic!("{class} is a class of characters, not {other:?}"),
    }
});

/// The longest text that is shown whole, in bytes. Longer ones lose their middle: an error says what is
/// wrong at its beginning, and what was expected at its end.
const LONGEST: usize = 2000;
/// How much of a longer one is shown at each end.
const END: usize = 400;

/// Words in the keys of what is secret.
const SECRET: [&str; 8] =
    ["password", "passwd", "passphrase", "pwd", "secret", "token", "credential", "private_key"];

/// The longest value of a table that is repeated in a message, in characters.
const LONGEST_VALUE: usize = 100;

/// A text on one line, as it may be printed: `\n`, `\u{202e}` stand for what is not seen as itself.
pub fn shown(text: &str) -> Cow<'_, str> {
    let text = shortened(text, LONGEST, END);
    match escaped(&text, |_| false) {
        Cow::Owned(text) => text.into(),
        Cow::Borrowed(_) => text,
    }
}

/// The same for names of files and cgroups, which need not be text: `\xff` stands for such bytes.
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

/// A text of several lines, as it may be printed. What is in the lines and not vipnat's own has to be
/// [`shown`] before.
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n')
}

/// A value in quotes, for a message that says what is wrong with it. One that looks like a connection
/// string with a password is not repeated.
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

/// A name on one line, as it may be printed: `…` for a connection string that stands where a name belongs.
pub fn shown_key(key: &str) -> Cow<'_, str> {
    if may_be_secret(key) { "…".into() } else { shown(key) }
}

/// Whether a text looks as if it held a password: `user:password@host`, in a URL or not, or
/// `password=…`. Other texts with `@` or `=`, such as `container@shop.service`, are names.
pub fn may_be_secret(text: &str) -> bool {
    let user = text.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    let of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let named = |(end, _): (usize, &str)| {
        let before = text[..end].trim_end_matches(|c| !of_word(c));
        before.rsplit(|c| !of_word(c)).next().is_some_and(names_a_secret)
    };
    user || text.match_indices(['=', ':']).any(named)
}

/// Whether the value of such a key is a secret.
pub fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key == "pass" || SECRET.iter().any(|word| key.contains(word))
}

/// Whether a text is seen as what it is.
pub fn is_printable(text: &str) -> bool {
    text.chars().all(is_seen)
}

/// JSON that says the same without characters that are not seen: these can only be in its strings, which
/// may escape any character.
pub fn shown_json(json: &str) -> Cow<'_, str> {
    let escape = |c: char, escape: &mut String| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(escape, "\\u{unit:04x}");
        }
    };
    escaped_by(json, |c| c == '\n', escape)
}

/// The same for TOML whose strings are basic ones.
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

/// Whether a character is seen as itself.
fn is_seen(c: char) -> bool {
    // Most are these, and need no table.
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

/// A text without its middle, if it is long.
fn shortened(text: &str, longest: usize, end: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return text.into();
    }
    let (start, rest) = text.split_at(text.floor_char_boundary(longest - end));
    let (left_out, last) = rest.split_at(rest.ceil_char_boundary(rest.len() - end));
    format!("{start} … ({} bytes left out) … {last}", left_out.len()).into()
}

/// `1 app`, `2 apps`.
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

    /// They were, if there was any `@`, `=` or `://` in them.
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
