//! The shape of a table as it is written, before it is checked.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::{
    endpoint::{Endpoint, NUMBER},
    named::{Named, Text},
};

/// A table. `CAREFUL` finds the place of repeated names, and reads slower: see [`Named`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of `services` and `apps`")]
pub(crate) struct Table<'a, const CAREFUL: bool = false> {
    #[serde(borrow, default)]
    pub(crate) services: Named<'a, Service<'a>, CAREFUL>,
    #[serde(borrow, default)]
    pub(crate) apps: Named<'a, App<'a, CAREFUL>, CAREFUL>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `backends`")]
pub(crate) struct Service<'a> {
    #[serde(borrow)]
    pub(crate) backends: Vec<Backend<'a>>,
    #[serde(borrow)]
    pub(crate) select: Option<Text<'a>>,
    #[serde(borrow, rename = "udp-pinning")]
    pub(crate) udp_pinning: Option<Text<'a>>,
    #[serde(borrow, rename = "on-backend-removed")]
    pub(crate) on_backend_removed: Option<Text<'a>>,
    #[serde(rename = "drain-seconds")]
    pub(crate) drain_seconds: Option<i64>,
}

/// `"247.221.80.48"`, or `{ ip = "247.221.80.48", port = 6380, weight = 2 }`.
#[derive(Debug)]
pub(crate) struct Backend<'a> {
    pub(crate) ip: Text<'a>,
    pub(crate) port: Option<i64>,
    pub(crate) weight: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `cgroup` and `relationships`")]
pub(crate) struct App<'a, const CAREFUL: bool = false> {
    #[serde(borrow)]
    pub(crate) cgroup: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(crate) relationships: Named<'a, Endpoints<'a>, CAREFUL>,
}

/// The endpoints of a relationship: a table for one, or a list of tables.
#[derive(Debug)]
pub(crate) enum Endpoints<'a> {
    One(Relationship<'a>),
    List(Vec<Relationship<'a>>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `service`")]
pub(crate) struct Relationship<'a> {
    #[serde(borrow)]
    pub(crate) service: Text<'a>,
    #[serde(borrow)]
    pub(crate) vip: Option<Text<'a>>,
    pub(crate) port: Option<i64>,
    #[serde(borrow)]
    pub(crate) protocol: Option<Text<'a>>,
    #[serde(rename = "instance-ips")]
    pub(crate) instance_ips: Option<bool>,
    #[serde(default)]
    pub(crate) endpoint: Endpoint,
}

impl<'de: 'a, 'a> Deserialize<'de> for Endpoints<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrList;

        impl<'de> Visitor<'de> for OneOrList {
            type Value = Endpoints<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with `service`, or a list of such tables")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoints<'de>, A::Error> {
                Relationship::deserialize(MapAccessDeserializer::new(map)).map(Endpoints::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Endpoints<'de>, A::Error> {
                let mut endpoints = Vec::new();
                while let Some(OfList(endpoint)) = list.next_element()? {
                    endpoints.push(endpoint);
                }
                Ok(Endpoints::List(endpoints))
            }
        }

        // With deserialize_any, a number would pass for the table that serde_json makes of it.
        deserializer.deserialize_struct("Endpoints", &["service"], OneOrList)
    }
}

/// An endpoint in a list, which must be a table. serde's derive would also accept a list of the fields.
struct OfList<'a>(Relationship<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for OfList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = OfList<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with `service`")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OfList<'de>, A::Error> {
                Relationship::deserialize(MapAccessDeserializer::new(map)).map(OfList)
            }
        }

        deserializer.deserialize_map(Table)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Backend<'a> {
    /// Hand-written, because the error of an untagged enum is only "did not match any variant".
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full<'a> {
            #[serde(borrow)]
            ip: Text<'a>,
            port: Option<i64>,
            weight: Option<i64>,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Backend<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IPv4 address in quotes, or a table with ip, port and weight")
            }

            fn visit_borrowed_str<E>(self, ip: &'de str) -> Result<Backend<'de>, E> {
                Ok(Backend { ip: ip.into(), port: None, weight: None })
            }

            fn visit_str<E>(self, ip: &str) -> Result<Backend<'de>, E> {
                Ok(Backend { ip: ip.to_owned().into(), port: None, weight: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Backend<'de>, A::Error> {
                let full = Full::deserialize(MapAccessDeserializer::new(map));
                let Full { ip, port, weight } = full.map_err(|error| {
                    if error.to_string().contains(NUMBER) {
                        A::Error::invalid_type(Unexpected::Other("number"), &self)
                    } else {
                        error
                    }
                })?;
                Ok(Backend { ip, port, weight })
            }
        }

        deserializer.deserialize_any(Either)
    }
}
