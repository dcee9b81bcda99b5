//! Checks services and their backends.

use std::{collections::HashMap, net::Ipv4Addr};

use super::checker::Checker;
use crate::table::{
    key_path::KeyPathRef,
    model::{Backend, OnBackendRemoved, Select, Service, UdpPinning, never_a_backend},
    parse::raw,
};

/// The effect of leaving `port` out, for messages.
const KEEPS_PORT: &str = "for the port that the application asks for";

impl Checker<'_> {
    pub(super) fn service(&mut self, path: &KeyPathRef<'_>, service: &raw::Service<'_>) -> Service {
        let raw::Service { backends, select, udp_pinning, on_backend_removed, drain_seconds } =
            service;
        let modes = Select::ALL.map(|mode| (mode.word(), mode));
        let select = self.word(&path.key("select"), select.as_deref(), &modes);
        let modes = UdpPinning::ALL.map(|mode| (mode.word(), mode));
        let udp_pinning = self.word(&path.key("udp-pinning"), udp_pinning.as_deref(), &modes);
        let on_backend_removed =
            self.on_backend_removed(path, on_backend_removed.as_deref(), *drain_seconds);
        let mut seen = HashMap::new();
        let path = path.key("backends");
        let backends = backends
            .iter()
            .enumerate()
            .map(|(i, backend)| {
                let path = path.index(i);
                let backend = self.backend(&path, backend);
                if let Some(first) = seen.insert((backend.ip, backend.port), i)
                    && !backend.ip.is_unspecified()
                {
                    self.problem(
                        &path,
                        format!("backend {} is listed twice (first as number {first})", backend.ip),
                        "list it once; `weight` gives it more turns",
                    );
                }
                backend
            })
            .collect();
        let service = Service { backends, select, udp_pinning, on_backend_removed };
        let turns = service.round();
        if turns > Service::MAX_TURNS {
            self.problem(
                &path,
                format!("the weights make {turns} turns in each round"),
                format!("use fewer backends or smaller weights: at most {}", Service::MAX_TURNS),
            );
        }
        service
    }

    fn on_backend_removed(
        &mut self,
        path: &KeyPathRef<'_>,
        word: Option<&str>,
        seconds: Option<i64>,
    ) -> OnBackendRemoved {
        let unknown = |word: &str| OnBackendRemoved::ALL.iter().all(|way| way.word() != word);
        // With an unknown word, `drain-seconds` is neither right nor wrong.
        let mistaken = word.is_some_and(unknown);
        let ways = OnBackendRemoved::ALL.map(|way| (way.word(), way));
        let way = self.word(&path.key("on-backend-removed"), word, &ways);
        let path = path.key("drain-seconds");
        match (way, seconds) {
            (_, None) => return way,
            _ if mistaken => return way,
            (OnBackendRemoved::Drain(_), Some(seconds)) => {
                if let Ok(seconds @ 1..=OnBackendRemoved::MAX_DRAIN) = u32::try_from(seconds) {
                    return OnBackendRemoved::Drain(seconds);
                }
                let help = format!(
                    "use 1 to {}; to end connections at once, use on-backend-removed = \"kill\"",
                    OnBackendRemoved::MAX_DRAIN
                );
                self.problem(&path, format!("{seconds} seconds"), help);
            }
            (OnBackendRemoved::Keep | OnBackendRemoved::Kill, Some(_)) => self.problem(
                &path,
                format!(
                    "`drain-seconds` needs on-backend-removed = \"drain\"; it is {:?}",
                    way.word()
                ),
                "add on-backend-removed = \"drain\", or remove this key",
            ),
        }
        way
    }

    fn backend(&mut self, path: &KeyPathRef<'_>, backend: &raw::Backend<'_>) -> Backend {
        let raw::Backend { ip, port, weight } = backend;
        // A backend written as a string has no key `ip`; the problem is then placed at the string.
        let ip = self.backend_ip(&path.key("ip"), ip).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let port = port.and_then(|port| self.port(&path.key("port"), port, KEEPS_PORT));
        let weight = match weight {
            None => 1,
            Some(weight) => match u16::try_from(*weight) {
                Ok(weight @ 1..=Backend::MAX_WEIGHT) => weight,
                _ => {
                    self.problem(
                        &path.key("weight"),
                        format!("weight {weight}"),
                        format!(
                            "use 1 to {}; to give a backend no new connections, leave it out \
                             (those it has stay)",
                            Backend::MAX_WEIGHT
                        ),
                    );
                    1
                }
            },
        };
        Backend { ip, port, weight }
    }

    fn backend_ip(&mut self, path: &KeyPathRef<'_>, text: &str) -> Option<Ipv4Addr> {
        let ip = self.ipv4(path, text)?;
        let Some(reason) = never_a_backend(ip) else {
            return Some(ip);
        };
        self.problem(
            path,
            format!("backend {ip} {reason}"),
            "use the real address of a container, such as 247.221.80.48",
        );
        None
    }
}
