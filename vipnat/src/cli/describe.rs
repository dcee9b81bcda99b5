//! Describes in words what an apply did.

use std::time::{SystemTime, UNIX_EPOCH};

use vipnat_core::{
    model::{Change, Mapping, Place, RemovedBackend},
    text::{count, shown_name},
};

use super::{
    notation::{backend_list, choices, limit},
    output::line,
};
use crate::reconcile::{Applied, Connections};

/// One line for each thing that an apply did; empty if it did nothing.
pub(crate) fn describe_applied(applied: &Applied) -> String {
    let Applied { changes, ended, draining, next_due: _, warnings: _, failed: _ } = applied;
    let mut text = describe_changes(changes) + &describe_all_ended(ended);
    text.extend(draining.iter().map(|(of, until)| line(&describe_draining(of, *until))));
    text
}

/// One line for each change.
pub(crate) fn describe_changes(changes: &[Change]) -> String {
    changes.iter().map(|change| line(&describe_change(change))).collect()
}

/// One line for each backend whose connections were ended.
pub(crate) fn describe_all_ended(ended: &[Connections]) -> String {
    ended.iter().map(|connections| line(&describe_ended(connections))).collect()
}

/// Begins with `+` for something new, `-` for something removed, `~` for something changed.
fn describe_change(change: &Change) -> String {
    match change {
        Change::Upgrade { layout: None } => "~ programs replaced by those of this build".to_owned(),
        Change::Upgrade { layout: Some(what) } => {
            format!("~ state of another layout taken over: {what}")
        }
        Change::Grow { vips, backends } => {
            format!("~ maps enlarged: {vips} VIPs, {backends} backend slots")
        }
        Change::Expect { app } => format!("+ app {app}, which has no cgroup yet"),
        Change::Attach { app, cgroup, id: _ } => {
            format!("+ app {app} in cgroup {}", shown_name(cgroup))
        }
        Change::Leave { app, cgroup: Place::At(cgroup) } => {
            format!("- app {app} in cgroup {}", shown_name(cgroup))
        }
        Change::Leave { app, cgroup: Place::Unseen(id) } => {
            format!("- app {app} in the cgroup whose id is {id}, which is not in view")
        }
        Change::Leave { app, cgroup: Place::Gone } => {
            format!("- app {app} in a cgroup that is gone")
        }
        Change::Detach { app } => format!("- app {app}"),
        Change::Repair => "~ repaired an interrupted change".to_owned(),
        Change::Vip { app, relationship, vip, old, new } => {
            let name = relationship.as_deref().unwrap_or("?");
            match (old, new) {
                (None, Some(new)) => format!("+ {app} {name} {vip}{}", target(new)),
                (Some(old), None) => format!("- {app} {name} {vip}{}", target(old)),
                (Some(old), Some(new)) if limit_of(old) == limit_of(new) => {
                    format!("~ {app} {name} {vip}{}, was {}", target(new), backends(old))
                }
                (Some(old), Some(new)) => {
                    format!("~ {app} {name} {vip}{}, was {vip}{}", target(new), target(old))
                }
                (None, None) => format!("? {app} {name} {vip}"),
            }
        }
    }
}

/// `x shop db 169.254.37.209: ended 3 connections to 247.221.81.0`
fn describe_ended(connections: &Connections) -> String {
    let (vip, what) = describe_connections(connections);
    format!("x {vip}: ended {what}")
}

fn describe_draining(connections: &Connections, until: SystemTime) -> String {
    let (vip, what) = describe_connections(connections);
    let seconds = until.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!(
        "x {vip}: draining {what} until {hours:02}:{minutes:02}:{:02} UTC. `vipnat run` ends the \
         rest; without it, apply again then",
        seconds % 60
    )
}

/// The app, relationship and VIP of connections; then how many they are, and to which backend.
fn describe_connections(connections: &Connections) -> (String, String) {
    let Connections { removed, count: number } = connections;
    let RemovedBackend { app, relationship, app_id: _, vip, backend } = removed;
    let name = relationship.as_deref().unwrap_or("?");
    let backend = backend_list(&[(*backend, 1)], "", "");
    (format!("{app} {name} {vip}"), format!("{} to {backend}", count(*number, "connection")))
}

/// The limit of a VIP, and its backends.
fn target(mapping: &Mapping) -> String {
    format!("{} -> {}", limit_of(mapping), backends(mapping))
}

fn limit_of(mapping: &Mapping) -> String {
    limit(mapping.port, mapping.protocol)
}

fn backends(mapping: &Mapping) -> String {
    backend_list(&mapping.backends(), "no backend", " ")
        + &choices(mapping.select, mapping.udp_pinning)
}
