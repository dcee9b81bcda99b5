//! Makes services and relationships of the endpoints in a value.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use serde_json::{Map, Value};

use crate::{
    table::{
        error::{Problem, Problems},
        key_path::KeyPath,
        model::{
            Backend, ByName, MAX_NAME, OnBackendRemoved, Relationship, Select, Service, UdpPinning,
            check_name, label, never_a_backend, never_the_vip_of, vip_of,
        },
        parse::endpoint::kind,
    },
    text::quoted,
};

/// The relationships in a value, by name.
pub(super) fn relationships(value: Value) -> Result<Map<String, Value>, Problem> {
    match value {
        Value::Object(all) => Ok(all),
        // PHP writes an object without keys as an empty list.
        Value::Array(list) if list.is_empty() => Ok(Map::new()),
        other => Err(Problem::new(
            KeyPath::default(),
            format!("the value is {}, not an object of relationships", kind(&other)),
            "give the value of PLATFORM_RELATIONSHIPS, with every relationship",
        )),
    }
}

/// Makes services and relationships of endpoints, one after the other.
#[derive(Default)]
pub(super) struct Reader {
    problems: Problems,
    notes: Vec<String>,
    services: BTreeMap<String, Service>,
    relationships: ByName<Relationship>,
    /// The first endpoint with each VIP.
    vips: BTreeMap<Ipv4Addr, Holder>,
}

/// An endpoint that was the first with its VIP.
struct Holder {
    /// Its name for messages.
    label: String,
    /// The service of all endpoints with this VIP.
    service: String,
    /// Whether any of them has `instance_ips`.
    said: bool,
}

/// One endpoint in a value, and where it is.
struct Found {
    path: KeyPath,
    /// Its name for messages.
    label: String,
    /// Its place in the list, from 0.
    place: usize,
    endpoint: Map<String, Value>,
}

impl Reader {
    fn problem(&mut self, path: &KeyPath, reason: impl Into<String>, help: impl Into<String>) {
        self.problems.add(|| Problem::new(path.clone(), reason, help));
    }

    pub(super) fn relationships(&mut self, all: Map<String, Value>) {
        let names: BTreeSet<_> = all.keys().cloned().collect();
        // In the order of names, like the table.
        let all: BTreeMap<_, _> = all.into_iter().collect();
        for (name, endpoints) in all {
            let path = KeyPath::keys(&[&name]);
            if let Err(reason) = check_name(&name) {
                let help = format!("rename it to 1 to {MAX_NAME} bytes without white space");
                self.problem(&path, reason, help);
                continue;
            }
            for found in self.endpoints(&name, &path, endpoints) {
                let (problems, notes) = (self.problems.len(), self.notes.len());
                let relationship = self.endpoint(&name, found, &names);
                if self.problems.len() == problems {
                    self.relationships.push(&name, relationship);
                } else {
                    self.notes.truncate(notes);
                }
            }
        }
    }

    /// The services and relationships, and the notes about them.
    pub(super) fn finish(
        self,
    ) -> (BTreeMap<String, Service>, ByName<Relationship>, Vec<String>, Problems) {
        let Self { problems, mut notes, services, relationships, vips } = self;
        let mut holders: Vec<_> = vips.into_values().collect();
        holders.sort_by(|one, other| one.label.cmp(&other.label));
        for Holder { label, .. } in
            holders.iter().filter(|holder| services[&holder.service].backends.is_empty())
        {
            let note = "has no instance_ips: connects to it fail until its service has backends";
            notes.push(format!("{label} {note}"));
        }
        (services, relationships, notes, problems)
    }

    /// The endpoints of a relationship.
    fn endpoints(&mut self, name: &str, path: &KeyPath, endpoints: Value) -> Vec<Found> {
        let (list, is_list) = match endpoints {
            // Some tools write an object instead of a list of one element.
            Value::Object(_) => (vec![endpoints], false),
            Value::Array(list) if !list.is_empty() => (list, true),
            Value::Null | Value::Array(_) => (vec![Value::Null], false),
            other => (vec![other], false),
        };
        let of = list.len();
        let mut found = Vec::new();
        for (place, endpoint) in list.into_iter().enumerate() {
            let path = if is_list { path.index(place) } else { path.clone() };
            let label = label(name, place, of);
            match endpoint {
                Value::Object(endpoint) => found.push(Found { path, label, place, endpoint }),
                Value::Null => self.notes.push(format!("{label} is left out: it has no endpoint")),
                other => self.problem(
                    &path,
                    format!("{} instead of an endpoint", kind(&other)),
                    "an endpoint is an object with ip and instance_ips; remove what is not",
                ),
            }
        }
        found
    }

    fn endpoint(&mut self, name: &str, found: Found, names: &BTreeSet<String>) -> Relationship {
        let Found { path, label, place, mut endpoint } = found;
        let problems = self.problems.len();
        let vip = match endpoint.shift_remove("ip").unwrap_or_default() {
            Value::Null => {
                let vip = vip_of(name);
                self.notes.push(format!("{label} has no ip: it gets the VIP of its name, {vip}"));
                vip
            }
            ip => self.vip(&path.key("ip"), name, &ip).unwrap_or_else(|| vip_of(name)),
        };
        let backends = match endpoint.shift_remove("instance_ips").unwrap_or_default() {
            Value::Null => None,
            instances => Some(self.backends(&label, &path.key("instance_ips"), instances)),
        };
        let instance_ips = backends.is_some();
        let service = if self.problems.len() > problems {
            // It is not used, because of the problem.
            String::new()
        } else if self.vips.contains_key(&vip) {
            self.share(&path, &label, vip, backends)
        } else {
            let service = self.unused_name(name, place, names);
            self.services.insert(service.clone(), service_of(backends.unwrap_or_default()));
            let holder = Holder { label, service: service.clone(), said: instance_ips };
            self.vips.insert(vip, holder);
            service
        };
        Relationship {
            service: service.as_str().into(),
            vip,
            port: None,
            protocol: None,
            instance_ips,
            endpoint: endpoint.into(),
        }
    }

    /// The service of an earlier endpoint with the same VIP. This endpoint must have the same backends, or
    /// none given.
    fn share(
        &mut self,
        path: &KeyPath,
        label: &str,
        vip: Ipv4Addr,
        backends: Option<Vec<Backend>>,
    ) -> String {
        let Some(Holder { label: other, service, said }) = self.vips.get_mut(&vip) else {
            return String::new();
        };
        let (other, service) = (other.clone(), service.clone());
        let said = std::mem::replace(said, *said || backends.is_some());
        match (backends, self.services.get_mut(&service)) {
            (Some(backends), Some(known)) if !said => known.backends = backends,
            (Some(backends), Some(known)) if known.backends != backends => self.problem(
                path,
                format!(
                    "relationships {} and {} have the same VIP {vip}, but differ in `instance_ips`",
                    quoted(&other),
                    quoted(label)
                ),
                "give both the same instances in the same order, or remove one of them",
            ),
            _ => {}
        }
        service
    }

    /// A free name for a service: that of its relationship, or with a number for further endpoints.
    fn unused_name(&self, name: &str, place: usize, names: &BTreeSet<String>) -> String {
        let taken = |service: &str| self.services.contains_key(service);
        if !taken(name) {
            return name.to_owned();
        }
        let numbers = place.max(1) + 1..;
        let unused = numbers.map(|number| {
            let end = format!("-{number}");
            let start = name.floor_char_boundary(MAX_NAME - end.len());
            format!("{}{end}", &name[..start])
        });
        let mut unused = unused.filter(|service| !taken(service) && !names.contains(service));
        unused.next().unwrap_or_default()
    }

    fn vip(&mut self, path: &KeyPath, name: &str, ip: &Value) -> Option<Ipv4Addr> {
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

    fn backends(&mut self, name: &str, path: &KeyPath, instances: Value) -> Vec<Backend> {
        let instances = match instances {
            Value::Array(list) => list,
            // Some tools write a string instead of a list of one element.
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
        backends
    }

    fn address(&mut self, path: &KeyPath, value: &Value) -> Option<Ipv4Addr> {
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

fn service_of(backends: Vec<Backend>) -> Service {
    Service {
        backends,
        select: Select::default(),
        udp_pinning: UdpPinning::default(),
        on_backend_removed: OnBackendRemoved::default(),
    }
}
