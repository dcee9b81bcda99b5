//! The checker: collects problems, and checks the kinds of values that several keys have.

use std::{net::Ipv4Addr, num::NonZeroU16, path::Path as FilePath, sync::Arc};

use rustc_hash::FxHashSet;
use serde_json::{Map, Value};

use super::holders::Holders;
use crate::{
    table::{
        error::{Problem, Problems},
        key_path::KeyPathRef,
        model::{MAX_NAME, check_name},
    },
    text::quoted,
};

/// Collects problems. A bad value becomes a placeholder, since a table with problems is not used.
pub(super) struct Checker<'a> {
    pub(super) problems: Problems,
    pub(super) cgroup_mount: &'a FilePath,
    pub(super) holders: Holders,
    /// The empty map that relationships without an endpoint share.
    pub(super) no_endpoint: Arc<Map<String, Value>>,
    /// The names of services that relationships share.
    service_names: FxHashSet<Arc<str>>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(cgroup_mount: &'a FilePath) -> Self {
        Self {
            problems: Problems::default(),
            cgroup_mount,
            holders: Holders::new(),
            no_endpoint: Arc::default(),
            service_names: FxHashSet::default(),
        }
    }

    pub(super) fn problem(
        &mut self,
        path: &KeyPathRef<'_>,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.problems.add(|| Problem::new(path.path(), reason, help));
    }

    pub(super) fn name(&mut self, path: &KeyPathRef<'_>, name: &str) {
        if let Err(reason) = check_name(name) {
            self.problem(
                path,
                reason,
                format!("use 1 to {MAX_NAME} bytes that are seen, without white space"),
            );
        }
    }

    /// The shared name of a service.
    pub(super) fn service_name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.service_names.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        self.service_names.insert(Arc::clone(&new));
        new
    }

    pub(super) fn ipv4(&mut self, path: &KeyPathRef<'_>, text: &str) -> Option<Ipv4Addr> {
        if let Ok(ip) = text.parse() {
            return Some(ip);
        }
        let reason = if text.parse::<std::net::Ipv6Addr>().is_ok() {
            format!("{text:?} is an IPv6 address")
        } else {
            format!("{} is not an IPv4 address", quoted(text))
        };
        let help = if text.contains(':') && !text.contains("::") {
            "write { ip = \"247.221.80.48\", port = 5432 } for an address with a port"
        } else {
            "use four numbers from 0 to 255, such as 247.221.80.48; names are not resolved"
        };
        self.problem(path, reason, help);
        None
    }

    pub(super) fn port(
        &mut self,
        path: &KeyPathRef<'_>,
        port: i64,
        without: &str,
    ) -> Option<NonZeroU16> {
        let checked = u16::try_from(port).ok().and_then(NonZeroU16::new);
        if checked.is_none() {
            let help = format!("use 1 to 65535; leave `port` out {without}");
            self.problem(path, format!("port {port}"), help);
        }
        checked
    }

    /// The meaning of one of several words. Without a text it is the default, which comes first.
    pub(super) fn word<T: Copy + Default>(
        &mut self,
        path: &KeyPathRef<'_>,
        text: Option<&str>,
        words: &[(&str, T)],
    ) -> T {
        let Some(text) = text else {
            return T::default();
        };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return *meaning;
        }
        let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let help = format!("use {}; left out, it is the first", words.join(" or "));
        self.problem(path, format!("{} is not a choice here", quoted(text)), help);
        T::default()
    }
}
