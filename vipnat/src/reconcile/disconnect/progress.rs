//! Counts the connections that were ended, and keeps the reasons why others were not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use vipnat_core::model::RemovedBackend;

use super::due::Due;
use crate::kernel::{
    error::Error,
    sockets::{Connection, End, Search},
};

/// The largest number of VIPs, and of backends of each, that one message names.
const MOST_NAMES: usize = 4;

/// The connections that were ended so far and those that were not, by the places in [`Due`].
#[derive(Default)]
pub(crate) struct Progress {
    /// The number of connections that were ended.
    pub(crate) counts: Vec<usize>,
    /// The number of connections that the last pass found and could not end, by place and reason.
    pub(crate) stay: BTreeMap<(usize, String), usize>,
    /// The failures of the last pass, by reason.
    failures: BTreeMap<String, Failure>,
}

/// The disconnects that failed for one reason.
#[derive(Default)]
struct Failure {
    places: BTreeSet<usize>,
    /// This kernel can never end such a connection.
    never: bool,
}

impl Progress {
    /// No connection was ended yet. `count` disconnects are due.
    pub(crate) fn of(count: usize) -> Self {
        Self { counts: vec![0; count], ..Self::default() }
    }

    /// Ends connections, each with its place. Returns the number of ended ones.
    pub(crate) fn pass(&mut self, search: &Search, connections: &[(usize, &Connection)]) -> usize {
        let mut ended = 0;
        // Each pass finds all connections that are still there.
        self.stay.clear();
        self.failures.clear();
        for (place, connection) in connections {
            let why = match search.end(connection) {
                Ok(End::Ended) => {
                    self.counts[*place] += 1;
                    ended += 1;
                    continue;
                }
                Ok(End::Stays(why)) => why,
                Ok(End::NotFound) => {
                    "the kernel does not find them by their addresses, which other sockets may have, too"
                        .to_owned()
                }
                // A failure for one connection need not affect the others.
                Err(error) => {
                    self.failed([*place], error);
                    continue;
                }
            };
            *self.stay.entry((*place, why)).or_default() += 1;
        }
        ended
    }

    /// Notes that the disconnects at some places failed.
    pub(crate) fn failed(&mut self, places: impl IntoIterator<Item = usize>, error: Error) {
        let never = !error.may_pass();
        let reason = format!("{:#}", anyhow::Error::from(error));
        let failure = self.failures.entry(reason).or_default();
        failure.places.extend(places);
        failure.never |= never;
    }

    /// The places to try again later.
    pub(crate) fn again(&self) -> BTreeSet<usize> {
        let failures = self.failures.values().filter(|failure| !failure.never);
        failures.flat_map(|failure| &failure.places).copied().collect()
    }

    /// The warnings about failures. `noted`: the next command finds the disconnects in the file.
    pub(crate) fn warnings(&self, due: &Due, noted: bool) -> Vec<String> {
        let warning = |(reason, failure): (&String, &Failure)| {
            let places = || failure.places.iter().map(|place| &due.drains[*place].removed);
            let next = if failure.never {
                "They stay until their applications end them".to_owned()
            } else {
                let address = match places().next() {
                    Some(one) if places().all(|other| other.backend.ip == one.backend.ip) => {
                        one.backend.ip.to_string()
                    }
                    _ => "ADDRESS".to_owned(),
                };
                let again = if noted {
                    "The next `vipnat apply` tries again, and `vipnat run` does in 30 seconds"
                } else {
                    "It is not tried again"
                };
                format!(
                    "{again}; by hand, `ss --kill dst {address}` ends them in the network namespace of \
                     the app"
                )
            };
            format!(
                "could not end connections to removed backends of {}: {reason}. {next}",
                whose(places())
            )
        };
        self.failures.iter().map(warning).collect()
    }
}

/// The number of VIPs, and the first of them by name.
fn whose<'a>(removed: impl Iterator<Item = &'a RemovedBackend>) -> String {
    let mut vips: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for RemovedBackend { app, relationship, app_id: _, vip, backend } in removed {
        vips.entry((app, *vip)).or_default().insert(backend.ip);
        names.insert((app, *vip), relationship.as_deref().unwrap_or("?"));
    }
    let named = vips.iter().take(MOST_NAMES).map(|(key @ (app, vip), backends)| {
        let backends: Vec<_> = backends.iter().take(MOST_NAMES).map(Ipv4Addr::to_string).collect();
        let more = if vips[key].len() > MOST_NAMES { ", …" } else { "" };
        format!("app {app:?}: {} {vip} to {}{more}", names[key], backends.join(", "))
    });
    let named: Vec<_> = named.collect();
    let more = if vips.len() > MOST_NAMES { "; …" } else { "" };
    let noun = if vips.len() == 1 { "VIP" } else { "VIPs" };
    format!("{} {noun} ({}{more})", vips.len(), named.join("; "))
}

#[cfg(test)]
mod tests {
    use std::io;

    use vipnat_common::AppId;
    use vipnat_core::model::Backend;

    use super::*;
    use crate::state::pending_disconnects::{Id, PendingDisconnect};

    fn due(vips: u8) -> Due {
        let drain = |number| {
            let removed = RemovedBackend {
                app: "shop".to_owned(),
                relationship: Some(format!("db{number}")),
                app_id: AppId(1),
                vip: Ipv4Addr::new(169, 254, 0, number),
                backend: Backend { ip: Ipv4Addr::new(240, 0, 0, 1), port: 0 },
            };
            let cgroups = Vec::new();
            PendingDisconnect {
                id: Id::default(),
                removed,
                cgroups,
                due: 0,
                on_trial: false,
                again: false,
            }
        };
        Due::new((0..vips).map(drain).collect())
    }

    fn io(kind: io::ErrorKind) -> Error {
        Error::Io { operation: "end a connection".to_owned(), source: kind.into() }
    }

    #[test]
    fn whatever_fails_is_tried_again_but_for_what_the_kernel_never_can() {
        let others = [
            io(io::ErrorKind::PermissionDenied),
            Error::Bpf { operation: "load".to_owned(), source: "no memory".into() },
            Error::Layout { dir: "/sys/fs/bpf/vipnat".into(), what: "version".to_owned() },
            Error::Refused("it went away".to_owned()),
        ];
        for error in others {
            let mut ending = Progress::default();
            ending.failed([0, 2], error);
            assert_eq!(ending.again(), [0, 2].into());
        }
        let mut ending = Progress::default();
        ending.failed([1], io(io::ErrorKind::Unsupported));
        assert!(ending.again().is_empty());
        assert!(ending.warnings(&due(2), true)[0].contains("They stay until their applications"));
    }

    #[test]
    fn what_could_not_be_ended_is_named_with_the_next_step() {
        let mut ending = Progress::default();
        ending.failed(0..6, Error::Refused("no memory".to_owned()));
        let said = ending.warnings(&due(6), true);
        assert_eq!(
            said,
            [
                "could not end connections to removed backends of 6 VIPs (app \"shop\": db0 169.254.0.0 to \
              240.0.0.1; app \"shop\": db1 169.254.0.1 to 240.0.0.1; app \"shop\": db2 169.254.0.2 to \
              240.0.0.1; app \"shop\": db3 169.254.0.3 to 240.0.0.1; …): no memory. The next `vipnat apply` \
              tries again, and `vipnat run` does in 30 seconds; by hand, `ss --kill dst 240.0.0.1` ends them \
              in the network namespace of the app"
            ]
        );
        assert!(ending.warnings(&due(6), false)[0].contains("It is not tried again; by hand"));
    }
}
