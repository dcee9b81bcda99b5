//! From a `PLATFORM_RELATIONSHIPS` value, as real platforms write it, to a table.
//!
//! Endpoints hold passwords, and people paste anything: no message repeats a text of the value, but
//! for names of relationships and what was read as an address.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value};

use super::super::{
    App, Backend, OnBackendRemoved, Relationship, Select, Service, Table, TableError, UdpPinning,
    check::{MAX_NAME, check_name, never_a_backend, never_the_vip_of},
    endpoint::{self, Json, kind},
    error::{Problem, Problems},
    locate::locate,
    path::Path,
    raw::{self, Format, not_read},
    vip_of,
};

/// A table made of what an app reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The table: one app, with a service for each relationship, of the same name.
    pub table: Table,
    /// What the value did not say and the table had to, a sentence each.
    pub notes: Vec<String>,
}

impl Table {
    /// Makes a table of a `PLATFORM_RELATIONSHIPS` value: the relationships of `app`, which are
    /// replaced, and a service for each. `ip` is the VIP, `instance_ips` the backends, and the rest
    /// the endpoint.
    ///
    /// The value is JSON or its base64, in either alphabet, with or without padding and newlines.
    /// `file` is the name that errors give.
    ///
    /// # Errors
    ///
    /// All that a table can't represent, each with its relationship. No endpoint's values are in it.
    pub fn from_platform_relationships(
        value: &[u8],
        file: &str,
        app_name: &str,
        app: App,
    ) -> Result<Imported, TableError> {
        let fails = TableError::one;
        let (text, file) = match json_text(value).map_err(|problem| fails(file, problem))? {
            Cow::Borrowed(text) => (Cow::Borrowed(text), Cow::Borrowed(file)),
            decoded @ Cow::Owned(_) => (decoded, Cow::Owned(format!("{file}, decoded"))),
        };
        let value = json(&text).map_err(|problem| fails(&file, problem))?;
        let mut reader = Reader::default();
        let (services, relationships) = reader.relationships(value);
        let Reader { mut problems, notes } = reader;
        if !problems.is_empty() {
            problems.place(|problems| locate(&text, Format::Json, problems));
            return Err(TableError::new(&file, problems));
        }
        let apps = BTreeMap::from([(
            app_name.to_owned(),
            App { relationships: relationships.into(), ..app },
        )]);
        Ok(Imported { table: Self { services, apps }, notes })
    }
}

impl Imported {
    /// Takes the keys of endpoints out whose value is null, which TOML does not have; a note says
    /// which. Nulls in lists stay.
    pub fn leave_out_nulls(&mut self) {
        for app in self.table.apps.values_mut() {
            for (name, relationship) in app.relationships.iter_mut() {
                let mut left_out = Vec::new();
                endpoint::leave_out_nulls(
                    Arc::make_mut(&mut relationship.endpoint),
                    &Path::keys(&[name]),
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
        Problem::new(Path::default(), reason, help)
    };
    let text = raw::utf8(value).map_err(|_| problem("not text"))?;
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

#[derive(Default)]
struct Reader {
    problems: Problems,
    notes: Vec<String>,
}

impl Reader {
    fn problem(&mut self, path: &Path, reason: impl Into<String>, help: impl Into<String>) {
        self.problems.add(|| Problem::new(path.clone(), reason, help));
    }

    fn relationships(
        &mut self,
        value: Value,
    ) -> (BTreeMap<String, Service>, BTreeMap<String, Relationship>) {
        let all = match value {
            Value::Object(all) => all,
            // What PHP makes of an object without keys.
            Value::Array(list) if list.is_empty() => Map::new(),
            other => {
                self.problem(
                    &Path::default(),
                    format!("the value is {}, not an object of relationships", kind(&other)),
                    "give the value of PLATFORM_RELATIONSHIPS, with every relationship",
                );
                Map::new()
            }
        };
        let (mut services, mut relationships) = (BTreeMap::new(), BTreeMap::new());
        let mut vips: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
        for (name, endpoints) in all {
            let path = Path::keys(&[&name]);
            if let Err(reason) = check_name(&name) {
                let help = format!("rename it to 1 to {MAX_NAME} bytes without white space");
                self.problem(&path, reason, help);
            }
            let Some((path, endpoint)) = self.only_endpoint(&name, path, endpoints) else {
                continue;
            };
            let (service, relationship) = self.endpoint(&name, &path, endpoint);
            let vip = relationship.vip;
            if let Some(other) = vips.insert(vip, name.clone()) {
                self.problem(
                    &path,
                    format!("relationships {other:?} and {name:?} have the same VIP {vip}"),
                    "remove one of them; a VIP belongs to one relationship",
                );
            }
            services.insert(name.clone(), service);
            relationships.insert(name, relationship);
        }
        (services, relationships)
    }

    /// The endpoint of a relationship and its place, if there is one to import.
    fn only_endpoint(
        &mut self,
        name: &str,
        path: Path,
        endpoints: Value,
    ) -> Option<(Path, Map<String, Value>)> {
        let (path, endpoint) = match endpoints {
            // As some tools write a list of one.
            Value::Object(endpoint) => return Some((path, endpoint)),
            Value::Null => (path, Value::Null),
            Value::Array(mut list) if list.len() <= 1 => {
                (path.index(0), list.pop().unwrap_or_default())
            }
            Value::Array(list) => {
                self.problem(
                    &path,
                    format!("{} endpoints, and a relationship has one in a table", list.len()),
                    "keep one of them, or give each a relationship of its own: their VIPs stay",
                );
                return None;
            }
            other => (path, other),
        };
        match endpoint {
            Value::Object(endpoint) => Some((path, endpoint)),
            Value::Null => {
                self.notes.push(format!("{name} is left out: it has no endpoint"));
                None
            }
            other => {
                self.problem(
                    &path,
                    format!("{} instead of an endpoint", kind(&other)),
                    "an endpoint is an object with ip and instance_ips; remove what is not",
                );
                None
            }
        }
    }

    fn endpoint(
        &mut self,
        name: &str,
        path: &Path,
        mut endpoint: Map<String, Value>,
    ) -> (Service, Relationship) {
        let vip = match endpoint.shift_remove("ip").unwrap_or_default() {
            Value::Null => {
                let vip = vip_of(name);
                self.notes.push(format!("{name} has no ip: it gets the VIP of its name, {vip}"));
                vip
            }
            ip => self.vip(&path.key("ip"), name, &ip).unwrap_or_else(|| vip_of(name)),
        };
        let instances = endpoint.shift_remove("instance_ips").unwrap_or_default();
        let service = Service {
            backends: self.backends(name, &path.key("instance_ips"), instances),
            select: Select::default(),
            udp_pinning: UdpPinning::default(),
            on_backend_removed: OnBackendRemoved::default(),
        };
        let relationship = Relationship {
            service: name.into(),
            vip,
            port: None,
            protocol: None,
            instance_ips: true,
            endpoint: endpoint.into(),
        };
        (service, relationship)
    }

    fn vip(&mut self, path: &Path, name: &str, ip: &Value) -> Option<Ipv4Addr> {
        let vip = self.address(path, ip)?;
        let Some(reason) = never_the_vip_of(name, vip) else {
            return Some(vip);
        };
        self.problem(
            path,
            format!("{vip} {reason}"),
            "vipnat can't translate this address; remove `ip` for the VIP of the name",
        );
        None
    }

    fn backends(&mut self, name: &str, path: &Path, instances: Value) -> Vec<Backend> {
        let instances = match instances {
            Value::Null => Vec::new(),
            Value::Array(list) => list,
            // As some tools write a list of one.
            one => vec![one],
        };
        let mut seen = BTreeSet::new();
        let mut backends = Vec::new();
        for (i, instance) in instances.iter().enumerate() {
            if instance.is_null() {
                continue;
            }
            let path = path.index(i);
            let Some(ip) = self.address(&path, instance) else { continue };
            if let Some(reason) = never_a_backend(ip) {
                self.problem(&path, format!("{ip} {reason}"), "remove it; it can't be a backend");
            } else if seen.insert(ip) {
                backends.push(Backend { ip, port: None, weight: 1 });
            } else {
                self.notes.push(format!("{name} has the instance {ip} twice: it is listed once"));
            }
        }
        if backends.is_empty() {
            let note = "has no instance_ips: connects to it fail until its service has backends";
            self.notes.push(format!("{name} {note}"));
        }
        backends
    }

    fn address(&mut self, path: &Path, value: &Value) -> Option<Ipv4Addr> {
        let reason = match value {
            Value::String(text) => match text.trim().parse() {
                Ok(ip) => return Some(ip),
                Err(_) => "not an IPv4 address".to_owned(),
            },
            other => format!("{} instead of an IPv4 address", kind(other)),
        };
        self.problem(path, reason, "write four numbers from 0 to 255, in quotes, or remove it");
        None
    }
}

#[cfg(test)]
mod tests;
