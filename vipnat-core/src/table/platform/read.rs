//! From a `PLATFORM_RELATIONSHIPS` value, as real platforms write it, to a table.
//!
//! Endpoints hold passwords, and people paste anything: no message repeats a text of the value, but
//! for names of relationships and what was read as an address.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;

use super::reader::{Reader, relationships};
use crate::table::{
    error::{Problem, Problems, TableError},
    key_path::KeyPath,
    model::{App, Table},
    parse::{
        document::{Format, utf8},
        endpoint::{self, Json},
        locate::locate,
        unreadable::not_read,
    },
};

/// A table made of what an app reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The table: one app, with a service for each relationship, of the same name.
    pub table: Table,
    /// What the value did not say and the table had to, a sentence each.
    pub notes: Vec<String>,
    /// What a table can't represent, if it was to be left out.
    pub skipped: Option<TableError>,
}

/// What is done about endpoints that a table can't represent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// They are an error.
    Refuse,
    /// They are left out.
    Skip,
}

impl Table {
    /// Makes a table of a `PLATFORM_RELATIONSHIPS` value: the relationships of `app`, which are
    /// replaced, and a service for each VIP. `ip` is the VIP, `instance_ips` the backends, and the rest
    /// the endpoint.
    ///
    /// The value is JSON or its base64, in either alphabet, with or without padding and newlines.
    /// `file` is the name that errors give.
    ///
    /// # Errors
    ///
    /// No such value; all that a table can't represent, each with its relationship, unless it is to be
    /// skipped. No endpoint's values are in it.
    pub fn from_platform_relationships(
        value: &[u8],
        file: &str,
        app_name: &str,
        app: App,
        unsupported: Unsupported,
    ) -> Result<Imported, TableError> {
        let fails = TableError::one;
        let (text, file) = match json_text(value).map_err(|problem| fails(file, problem))? {
            Cow::Borrowed(text) => (Cow::Borrowed(text), Cow::Borrowed(file)),
            decoded @ Cow::Owned(_) => (decoded, Cow::Owned(format!("{file}, decoded"))),
        };
        let value = json(&text).map_err(|problem| fails(&file, problem))?;
        let located = |mut problems: Problems| {
            problems.place(|problems| locate(&text, Format::Json, problems));
            TableError::new(&file, problems)
        };
        let all = relationships(value).map_err(|problem| located(Problems::from(problem)))?;
        let mut reader = Reader::default();
        reader.relationships(all);
        let (services, relationships, notes, problems) = reader.finish();
        let skipped = (!problems.is_empty()).then(|| located(problems));
        match skipped {
            Some(error) if unsupported == Unsupported::Refuse => Err(error),
            skipped => {
                let app = App { relationships, ..app };
                let apps = BTreeMap::from([(app_name.to_owned(), app)]);
                Ok(Imported { table: Self { services, apps }, notes, skipped })
            }
        }
    }
}

impl Imported {
    /// Takes the keys of endpoints out whose value is null, which TOML does not have; a note says
    /// which. Nulls in lists stay.
    pub fn leave_out_nulls(&mut self) {
        for app in self.table.apps.values_mut() {
            let labels = (0..app.relationships.len()).map(|number| app.relationships.label(number));
            let labels: Vec<_> = labels.collect();
            for (label, (_, relationship)) in labels.iter().zip(app.relationships.iter_mut()) {
                let mut left_out = Vec::new();
                endpoint::leave_out_nulls(
                    Arc::make_mut(&mut relationship.endpoint),
                    &KeyPath::keys(&[label]),
                    &mut left_out,
                );
                self.notes.extend(left_out.iter().map(|path| {
                    format!("{path} is null, which only JSON has: it is left out of the TOML")
                }));
            }
        }
    }
}

/// The JSON that a value is, or that its base64 says.
fn json_text(value: &[u8]) -> Result<Cow<'_, str>, Problem> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

    let problem = |reason| {
        let help = "give the value of PLATFORM_RELATIONSHIPS, as `printenv` prints it, or its JSON";
        Problem::new(KeyPath::default(), reason, help)
    };
    let text = utf8(value).map_err(|_| problem("not text"))?;
    match text.trim_start().as_bytes() {
        [] => return Err(problem("there is nothing in it")),
        [b'{' | b'[', ..] => return Ok(text.into()),
        _ => {}
    }
    let base64: Vec<_> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => byte,
        })
        .collect();
    let json = BASE64.decode(base64).map_err(|_| problem("neither JSON nor base64"))?;
    let json = String::from_utf8(json).map_err(|_| problem("base64, but not of text"))?;
    Ok(json.into())
}

fn json(text: &str) -> Result<Value, Problem> {
    let at = |error: &serde_json::Error| (error.line(), error.column().max(1));
    let mut document = serde_json::Deserializer::from_str(text);
    let Json(value) = serde_path_to_error::deserialize(&mut document).map_err(|error| {
        not_read(&error.path().to_string(), &error.inner().to_string(), at(error.inner()))
    })?;
    document.end().map_err(|error| not_read("", &error.to_string(), at(&error)))?;
    Ok(value)
}

#[cfg(test)]
mod tests;
