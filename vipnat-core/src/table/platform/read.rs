//! Imports a `PLATFORM_RELATIONSHIPS` value, as real platforms write it, as a table.
//!
//! Endpoints hold passwords, and people paste anything. So messages repeat no text of the value, except
//! names of relationships and addresses.

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

/// A table that was made from the value of an app.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The table. It has one app, and for each relationship a service of the same name.
    pub table: Table,
    /// Choices that the value left open, a sentence each.
    pub notes: Vec<String>,
    /// The endpoints that a table can't represent, with [`Unsupported::Skip`].
    pub skipped: Option<TableError>,
}

/// The way to treat endpoints that a table can't represent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// They are an error.
    Refuse,
    /// They are left out.
    Skip,
}

impl Table {
    /// Makes a table of a `PLATFORM_RELATIONSHIPS` value: it replaces the relationships of `app`, and makes
    /// a service for each VIP. `ip` is the VIP, `instance_ips` are the backends, and the rest is the
    /// endpoint.
    ///
    /// The value is JSON or its base64, in either alphabet, with or without padding and newlines.
    /// `file` is the name in error messages.
    ///
    /// # Errors
    ///
    /// The text is no such value, or has endpoints that a table can't represent, unless the caller skips
    /// them. The error has no values of endpoints.
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
            problems.place(|problems| locate(&text, Format::Json, 0, problems));
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
    /// Removes the keys of endpoints whose value is null, which TOML does not have, and adds a note for
    /// each. Nulls in lists stay.
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

/// The JSON text of a value, decoded if it is base64.
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
