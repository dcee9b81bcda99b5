//! Reads the state back, and compares it with what the agent knows.
//!
//! What differs was written by another program than vipnat, or shows a fault of vipnat. A full apply repairs
//! it. The links of cgroups are not compared here.

use std::{collections::BTreeMap, net::Ipv4Addr};

use vipnat_common::{AppId, Protocol, VipKey};
use vipnat_core::model::NameIndex;

use super::state::Live;
use crate::{
    kernel::{
        compat,
        error::{Error, Result},
        maps::Copied,
        pinned_ids::PinnedIds,
    },
    reconcile::context::Context,
    state::{links, name_index, staging, state_dir::StateDir},
};

/// The largest number of differences of a kind to name one by one.
const NAMED: usize = 3;

/// The result of a review.
#[derive(Debug, PartialEq, Eq)]
pub enum Review {
    /// The state is as the agent left it.
    Same,
    /// Another vipnat has changed the state, which is no fault, or the names are not written yet.
    Changed,
    /// Differences, for people. Each names an object, and what happened to it.
    Differs(Vec<String>),
}

/// See [`Session::review`](crate::reconcile::Session::review).
pub(crate) fn review(context: &Context, live: &Live) -> Result<Review> {
    let Some(dir) = StateDir::open_again(&context.dir)? else {
        // `vipnat flush` refuses to do that beside `vipnat run`.
        return Ok(Review::Differs(vec!["the state was removed".to_owned()]));
    };
    if !live.names_saved {
        // An apply writes them again.
        return Ok(Review::Changed);
    }
    if dir.generation()? != Some(live.generation) {
        let gone = || Review::Differs(vec!["the directory of the maps was removed".to_owned()]);
        return Ok(if staging::exists(&dir)? { Review::Changed } else { gone() });
    }
    if !compat::is_current(dir.path()) {
        return Ok(Review::Differs(vec!["the map layout was changed".to_owned()]));
    }
    let pins = PinnedIds::read(dir.path())?;
    let copied = live.maps.copy();
    let last_app = live.maps.layout()?.last_app;
    let apps: BTreeMap<_, _> = links::app_ids(&dir)?.into_iter().collect();
    let names = name_index::load(&context.dir);
    dir.is_still_there()?;
    // Comparing takes long, and changes nothing.
    drop(dir);

    let mut differences = live.pins.differences(&pins);
    differences.extend(compare_apps(live, &apps));
    if last_app < live.app_ids.values().map(|app_id| app_id.0).max().unwrap_or(0) {
        differences.push("the last app id in the map layout was changed".to_owned());
    }
    let of_maps = compare_maps(live, copied);
    if !of_maps.is_empty() {
        restore_maps(context, live)?;
    }
    differences.extend(of_maps);
    differences.extend(compare_names(live, &names));
    Ok(if differences.is_empty() { Review::Same } else { Review::Differs(differences) })
}

/// Apps whose directories came or went.
fn compare_apps(live: &Live, found: &BTreeMap<String, AppId>) -> Vec<String> {
    let gone = live.app_ids.iter().filter(|(name, app_id)| found.get(*name) != Some(app_id));
    let gone = gone.map(|(name, _)| format!("the directory of app {name:?} was removed"));
    // An app that is held back keeps its directory.
    let known = |name: &&String| live.app_ids.contains_key(*name) || live.unsettled.contains(*name);
    let new = found.keys().filter(|name| !known(name));
    let new = new.map(|name| format!("a directory of app {name:?} was made"));
    few("more directories of apps", gone.chain(new).collect())
}

/// Writes entries and slots that differ again, even those that no apply understands.
fn restore_maps(context: &Context, live: &Live) -> Result<()> {
    let Some(dir) = live.lock(&context.dir)? else {
        return Ok(());
    };
    live.maps.restore(live.content.snapshot())?;
    dir.is_still_there()
}

/// Entries and slots that are others.
fn compare_maps(live: &Live, copied: Result<Copied>) -> Vec<String> {
    let now = match copied.and_then(Copied::snapshot) {
        Ok(now) => now,
        Err(Error::CorruptMap { map }) => {
            return vec![format!("the map {map} holds what vipnat never writes")];
        }
        Err(error) => return vec![error.to_string()],
    };
    let before = live.content.snapshot();
    if *before == now {
        return Vec::new();
    }
    let apps: BTreeMap<_, _> =
        live.app_ids.iter().map(|(name, app_id)| (*app_id, name.as_str())).collect();
    let describe = |key: &VipKey| describe(key, &apps, &live.names);
    let mut keys: Vec<_> = before.entries.keys().chain(now.entries.keys()).collect();
    keys.sort_unstable_by_key(|key| key.to_bytes());
    keys.dedup();
    let entries = keys.into_iter().filter_map(|key| {
        let what = match (before.entries.get(key), now.entries.get(key)) {
            (Some(before), Some(now)) if before == now => return None,
            (Some(_), Some(_)) => "was changed",
            (Some(_), None) => "was removed",
            (None, _) => "was added",
        };
        Some(format!("the entry of {} {what} in the map vips", describe(key)))
    });
    let mut differences = few("more entries of the map vips", entries.collect());
    let slots = (0..).zip(before.slots.iter().zip(&now.slots));
    let slots = slots.filter(|(_, (before, now))| before != now).map(|(index, (before, now))| {
        let owner = before.or(*now).map(|slot| describe(&slot.owner)).unwrap_or_default();
        format!("slot {index} of {owner} was changed in the map backends")
    });
    differences.extend(few("more slots of the map backends", slots.collect()));
    if before.capacity != now.capacity {
        differences.push("the maps have other sizes".to_owned());
    }
    differences
}

/// A VIP of an app, for people.
fn describe(key: &VipKey, apps: &BTreeMap<AppId, &str>, names: &NameIndex) -> String {
    let VipKey { app: _, vip, port, protocol, reserved: _ } = *key;
    let vip = Ipv4Addr::from(vip);
    let app = apps.get(&key.app_id()).copied();
    let name = app.and_then(|app| names.relationships(app, vip));
    let app = app.map_or_else(|| format!("app id {}", key.app_id()), |app| format!("app {app:?}"));
    let port = if port == 0 { String::new() } else { format!(" port {port}") };
    let protocol = match protocol {
        Protocol::Tcp => " tcp",
        Protocol::Udp => " udp",
        _ => "",
    };
    format!("{app} {}{vip}{port}{protocol}", name.map(|name| name + " ").unwrap_or_default())
}

fn compare_names(live: &Live, now: &NameIndex) -> Option<String> {
    match now.problem() {
        Some(problem) => Some(problem.to_owned()),
        None if *now == live.names => None,
        None => Some("the list of names in /run/vipnat was changed or removed".to_owned()),
    }
}

/// Some of these, and the number of the others.
fn few(more: &str, mut all: Vec<String>) -> Vec<String> {
    let others = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    all.extend((others > 0).then(|| format!("{others} {more} differ")));
    all
}
