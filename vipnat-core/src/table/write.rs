//! Writes a [`Table`] as TOML or JSON. Reading that text gives the same table.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value, json};
use vipnat_common::Protocol;

use super::{
    key_path::KeyPath,
    model::{
        App, Backend, OnBackendRemoved, Relationship, Select, Service, Table, UdpPinning, vip_of,
    },
};
use crate::text::{shown_json, shown_toml};

/// The longest list that is written on one line, in bytes.
const WIDTH: usize = 100;

/// A value of an endpoint that TOML can't express: null, or a number that would change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} is {value}, which TOML does not have; write the table as JSON")]
pub struct NotToml {
    path: String,
    value: &'static str,
}

impl Table {
    /// The table as JSON, without keys that have their default.
    pub fn to_json(&self) -> String {
        let Self { services, apps } = self;
        let services: Map<_, _> =
            services.iter().map(|(name, service)| (name.clone(), service.json().into())).collect();
        let apps: Map<_, _> = apps.iter().map(|(name, app)| (name.clone(), app.json())).collect();
        let json = format!("{:#}\n", json!({ "services": services, "apps": apps }));
        shown_json(&json).into_owned()
    }

    /// The table as TOML, laid out as people write it, without keys that have their default.
    ///
    /// # Errors
    ///
    /// The first value of an endpoint that TOML can't express.
    pub fn to_toml(&self) -> Result<String, NotToml> {
        let Self { services, apps } = self;
        let mut text = String::new();
        for (name, service) in services {
            header(&mut text, &["services", name]);
            lines(&mut text, &service.json(), &KeyPath::keys(&["services", name]))?;
        }
        for (name, app) in apps {
            let App { cgroup, relationships } = app;
            header(&mut text, &["apps", name]);
            if let Some(cgroup) = cgroup {
                let _ = writeln!(text, "cgroup = {}", string(&cgroup.to_string()));
            }
            for (relationship, endpoints) in relationships.groups() {
                let keys = ["apps", name, "relationships", relationship];
                let path = KeyPath::keys(&keys);
                let several = endpoints.len() > 1;
                for (number, endpoint) in endpoints.enumerate() {
                    let path = if several { path.index(number) } else { path.clone() };
                    let (open, close) = if several { ("[[", "]]") } else { ("[", "]") };
                    header_in(&mut text, (open, close), &keys);
                    lines(&mut text, &endpoint.json(relationship), &path)?;
                }
            }
        }
        Ok(text)
    }
}

impl Service {
    fn json(&self) -> Map<String, Value> {
        let Self { backends, select, udp_pinning, on_backend_removed } = self;
        let backends: Vec<_> = backends.iter().map(Backend::json).collect();
        let select = (*select != Select::default()).then(|| select.word().into());
        let udp_pinning =
            (*udp_pinning != UdpPinning::default()).then(|| udp_pinning.word().into());
        let way = (*on_backend_removed != OnBackendRemoved::default())
            .then(|| on_backend_removed.word().into());
        object([
            ("backends", Some(backends.into())),
            ("select", select),
            ("udp-pinning", udp_pinning),
            ("on-backend-removed", way),
            ("drain-seconds", on_backend_removed.drain_seconds().map(Value::from)),
        ])
    }
}

impl Backend {
    fn json(&self) -> Value {
        let Self { ip, port, weight } = self;
        if port.is_none() && *weight == 1 {
            return json!(ip);
        }
        let backend = object([
            ("ip", Some(json!(ip))),
            ("port", port.map(|port| json!(port))),
            ("weight", (*weight != 1).then(|| json!(weight))),
        ]);
        backend.into()
    }
}

impl App {
    fn json(&self) -> Value {
        let Self { cgroup, relationships } = self;
        let cgroup = cgroup.as_ref().map(|cgroup| cgroup.to_string().into());
        let relationships: Map<_, _> = relationships
            .groups()
            .map(|(name, endpoints)| {
                let mut endpoints: Vec<Value> =
                    endpoints.map(|endpoint| endpoint.json(name).into()).collect();
                let only = if endpoints.len() == 1 { endpoints.pop() } else { None };
                (name.to_owned(), only.unwrap_or(Value::Array(endpoints)))
            })
            .collect();
        object([("cgroup", cgroup), ("relationships", Some(relationships.into()))]).into()
    }
}

impl Relationship {
    fn json(&self, name: &str) -> Map<String, Value> {
        let Self { service, vip, port, protocol, instance_ips, endpoint } = self;
        let protocol = match protocol {
            Some(Protocol::Tcp) => Some("tcp"),
            Some(Protocol::Udp) => Some("udp"),
            _ => None,
        };
        object([
            ("service", Some(json!(**service))),
            ("vip", (*vip != vip_of(name)).then(|| json!(vip))),
            ("port", port.map(|port| json!(port))),
            ("protocol", protocol.map(Value::from)),
            ("instance-ips", (!instance_ips).then_some(Value::Bool(false))),
            ("endpoint", (!endpoint.is_empty()).then(|| json!(**endpoint))),
        ])
    }
}

/// An object of the entries that have a value.
fn object<const N: usize>(entries: [(&str, Option<Value>); N]) -> Map<String, Value> {
    entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// Writes `[a.b.c]`, after an empty line.
fn header(text: &mut String, keys: &[&str]) {
    header_in(text, ("[", "]"), keys);
}

/// Writes a header in these brackets: `[[a.b.c]]` begins an element of a list.
fn header_in(text: &mut String, (open, close): (&str, &str), keys: &[&str]) {
    let keys: Vec<_> = keys.iter().map(|key| self::key(key)).collect();
    let between = if text.is_empty() { "" } else { "\n" };
    let _ = writeln!(text, "{between}{open}{}{close}", keys.join("."));
}

/// Writes `key = value`, a line each.
fn lines(text: &mut String, object: &Map<String, Value>, path: &KeyPath) -> Result<(), NotToml> {
    for (key, value) in object {
        let value = inline(value, &path.key(key))?;
        let _ = writeln!(text, "{} = {value}", self::key(key));
    }
    Ok(())
}

/// A value as TOML. A long list takes a line for each of its elements.
fn inline(value: &Value, path: &KeyPath) -> Result<String, NotToml> {
    let no_toml = |value| Err(NotToml { path: path.to_string(), value });
    match value {
        Value::Null => no_toml("null"),
        Value::Number(number) => match not_toml(number) {
            Some(what) => no_toml(what),
            None => Ok(value.to_string()),
        },
        Value::Bool(_) => Ok(value.to_string()),
        Value::String(value) => Ok(string(value)),
        Value::Array(values) => {
            let values: Result<Vec<_>, _> =
                values.iter().enumerate().map(|(i, value)| inline(value, &path.index(i))).collect();
            let values = values?;
            let line = format!("[{}]", values.join(", "));
            if line.len() <= WIDTH {
                return Ok(line);
            }
            Ok(format!("[\n    {},\n]", values.join(",\n    ")))
        }
        Value::Object(object) => {
            let entry = |(key, value): (&String, &Value)| {
                Ok(format!("{} = {}", self::key(key), inline(value, &path.key(key))?))
            };
            let entries: Result<Vec<_>, _> = object.iter().map(entry).collect();
            let entries = entries?;
            Ok(if entries.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{ {} }}", entries.join(", "))
            })
        }
    }
}

/// The kind of a number that TOML can't express. TOML has 64-bit integers without a negative zero, and
/// 64-bit floating point.
fn not_toml(number: &Number) -> Option<&'static str> {
    let text = number.to_string();
    if !text.contains(['.', 'e', 'E']) {
        return match text.parse::<i64>() {
            Err(_) => Some("a number beyond 63 bits"),
            Ok(0) if text.starts_with('-') => Some("minus zero"),
            Ok(_) => None,
        };
    }
    let float: f64 = text.parse().ok()?;
    if float.is_finite() && decimal(&text) == decimal(&format!("{float:e}")) {
        None
    } else {
        Some("a number with more digits than floating point has")
    }
}

/// The sign, the significant digits, and the power of ten of the last one. Equal numbers give equal values.
fn decimal(text: &str) -> (bool, String, i64) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (digits, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let power = power.parse().unwrap_or(i64::MAX / 2) - fraction.len() as i64
        + (digits.len() - significant.len()) as i64;
    let significant = significant.trim_start_matches('0').to_owned();
    let power = if significant.is_empty() { 0 } else { power };
    (negative, significant, power)
}

/// A key of TOML, in quotes if it needs them.
pub(super) fn key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { string(key) }
}

/// A basic string of TOML. JSON has the same escapes, except for characters beyond U+FFFF; and TOML also
/// wants DEL escaped.
fn string(text: &str) -> String {
    shown_toml(&Value::from(text).to_string()).into_owned()
}

#[cfg(test)]
mod tests;
