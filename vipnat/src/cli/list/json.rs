//! Writes a listing as JSON in a stream, since that of a large machine is some hundred megabytes.

use std::{
    borrow::Cow,
    ffi::OsStr,
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use serde::{Serialize, Serializer};
use serde_json::ser::{Formatter, PrettyFormatter};
use vipnat_common::{
    AppId, Protocol,
    abi::{ANY_PORT, Counters},
};
use vipnat_core::{
    model::{Backend, Place},
    text::shown_json,
};

use crate::{
    cli::notation::protocol_name,
    reconcile::{ListedApp, ListedCgroup, ListedVip, Listing},
};

/// Writes the whole listing, and a line end.
pub(crate) fn write(listing: &Listing, out: &mut dyn Write) -> io::Result<()> {
    let Counters { unreachable, unsettled, unrecorded, evicted } = listing.counters;
    let document = Document {
        apps: Apps(listing),
        redirected: listing.redirected(),
        counters: CounterFields { unreachable, unsettled, unrecorded, evicted },
    };
    let escaping = Escaping(PrettyFormatter::new());
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, escaping))?;
    writeln!(out)
}

/// Escapes characters that are not visible, which names of cgroups may hold.
struct Escaping(PrettyFormatter<'static>);

/// Passes calls on unchanged.
macro_rules! as_pretty {
    ($($name:ident($($argument:ident: $type:ty)?)),+) => {$(
        fn $name<W: ?Sized + Write>(&mut self, out: &mut W $(, $argument: $type)?) -> io::Result<()> {
            self.0.$name(out $(, $argument)?)
        }
    )+};
}

impl Formatter for Escaping {
    fn write_string_fragment<W>(&mut self, out: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        out.write_all(shown_json(fragment).as_bytes())
    }

    as_pretty! {
        begin_array(), end_array(), begin_array_value(first: bool), end_array_value(),
        begin_object(), end_object(), begin_object_key(first: bool), begin_object_value(),
        end_object_value()
    }
}

#[derive(Serialize)]
struct Document<'a> {
    apps: Apps<'a>,
    redirected: u64,
    counters: CounterFields,
}

#[derive(Serialize)]
struct CounterFields {
    unreachable: u64,
    unsettled: u64,
    unrecorded: u64,
    evicted: u64,
}

struct Apps<'a>(&'a Listing);

impl Serialize for Apps<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(listing) = self;
        serializer.collect_seq(listing.apps.iter().map(|app| {
            let ListedApp { name, app_id, cgroups } = app;
            App {
                app: name,
                app_id: *app_id,
                cgroups: cgroups.iter().map(Cgroup::new).collect(),
                relationships: Relationships { listing, app },
            }
        }))
    }
}

#[derive(Serialize)]
struct App<'a> {
    app: &'a str,
    #[serde(rename = "scope")]
    app_id: AppId,
    cgroups: Vec<Cgroup<'a>>,
    relationships: Relationships<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Cgroup<'a> {
    /// The path. One that is not UTF-8 is only approximated here, and exact in `cgroup-bytes`.
    cgroup: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup_bytes: Option<&'a [u8]>,
    id: u64,
    gone: bool,
    translating: bool,
    by_hand: bool,
}

impl<'a> Cgroup<'a> {
    fn new(listed: &'a ListedCgroup) -> Self {
        let ListedCgroup { id, place, translating, by_hand } = listed;
        let path = place.path().map(Path::as_os_str);
        Self {
            cgroup: path.map(OsStr::to_string_lossy),
            cgroup_bytes: path.filter(|path| path.to_str().is_none()).map(OsStr::as_bytes),
            id: *id,
            gone: *place == Place::Gone,
            translating: *translating,
            by_hand: *by_hand,
        }
    }
}

struct Relationships<'a> {
    listing: &'a Listing,
    app: &'a ListedApp,
}

impl Serialize for Relationships<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { listing, app } = self;
        serializer.collect_seq(listing.vips(app).map(Relationship))
    }
}

/// One VIP of an app.
struct Relationship(ListedVip);

impl Serialize for Relationship {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(ListedVip {
            names,
            vip,
            port,
            protocol,
            connections,
            backends,
            select,
            udp_pinning,
        }) = self;
        let names = names.as_ref();
        let backend = |(Backend { ip, port }, turns): &(Backend, usize)| BackendJson {
            ip: *ip,
            port: (*port != 0).then_some(*port),
            turns: *turns,
        };
        let also = names.into_iter().flat_map(|names| &names.also);
        RelationshipFields {
            relationship: names.map(|names| &*names.relationship),
            service: names.map(|names| &*names.service),
            also: also.map(|(relationship, service)| Also { relationship, service }).collect(),
            vip: *vip,
            port: (*port != ANY_PORT).then_some(*port),
            protocol: (*protocol != Protocol::Any).then(|| protocol_name(*protocol)).flatten(),
            connections: *connections,
            backends: backends.iter().map(backend).collect(),
            select: select.word(),
            udp_pinning: udp_pinning.word(),
            on_backend_removed: names.map(|names| names.on_backend_removed.word()),
            drain_seconds: names.and_then(|names| names.on_backend_removed.drain_seconds()),
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RelationshipFields<'a> {
    relationship: Option<&'a str>,
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<Also<'a>>,
    vip: Ipv4Addr,
    port: Option<u16>,
    protocol: Option<&'a str>,
    connections: u64,
    backends: Vec<BackendJson>,
    select: &'a str,
    udp_pinning: &'a str,
    on_backend_removed: Option<&'a str>,
    drain_seconds: Option<u32>,
}

/// Another relationship with the same VIP.
#[derive(Serialize)]
struct Also<'a> {
    relationship: &'a str,
    service: &'a str,
}

#[derive(Serialize)]
struct BackendJson {
    ip: Ipv4Addr,
    port: Option<u16>,
    turns: usize,
}
