//! What is still to be ended: connections to backends that left the table, and when.
//!
//! Kept beside the record of names, in `/run/vipnat`. An entry is there before its backend leaves, so
//! what an interrupted command does not end, the next one does.

use std::{
    collections::HashMap,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    datapath::{Departed, Rules},
    record,
};

/// The extension of the file.
pub(crate) const FILE: &str = "drains.json";

/// All that is still to be ended, in the order in which it left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Drains(Vec<Drain>);

/// A backend whose connections are to be ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Whose, and which.
    #[serde(flatten)]
    pub departed: Departed,
    /// Whole paths of the cgroups in whose network namespaces the connections are.
    pub cgroups: Vec<PathBuf>,
    /// When they are to end, in seconds since 1970.
    pub due: u64,
    /// They are to end as soon as the change that took the backend away is confirmed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_trial: bool,
}

impl Drains {
    /// What a state directory has; nothing if there is no file that can be read.
    pub fn load(state: &Path) -> Self {
        let text = fs::read_to_string(file(state)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Writes it, in place of what was there; if there is nothing, there is no file.
    ///
    /// # Errors
    ///
    /// If the directory or file cannot be written.
    pub fn save(&self, state: &Path) -> io::Result<()> {
        if *self == Self::load(state) {
            return record::tidy(&file(state));
        }
        if self.0.is_empty() {
            return record::remove(&file(state));
        }
        record::replace(&file(state), &serde_json::to_vec_pretty(self)?)
    }

    /// Whether there is nothing to end.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The VIPs, by app, whose backends left.
    pub fn vips(&self) -> impl Iterator<Item = (u32, Ipv4Addr)> {
        self.0.iter().map(|Drain { departed, .. }| (departed.scope, departed.vip))
    }

    /// Adds one.
    pub fn push(&mut self, drain: Drain) {
        self.0.push(drain);
    }

    /// What was to end with a confirmation is due now.
    pub fn confirm(&mut self) {
        for drain in self.0.iter_mut().filter(|drain| drain.on_trial) {
            (drain.due, drain.on_trial) = (0, false);
        }
    }

    /// Those of a list.
    pub fn of(drains: &[Drain]) -> Self {
        Self(drains.to_vec())
    }

    /// All of them, by app and VIP.
    pub fn by_vip(&self) -> HashMap<(u32, Ipv4Addr), Vec<&Drain>> {
        let mut by_vip: HashMap<_, Vec<_>> = HashMap::new();
        for drain in &self.0 {
            let Departed { scope, vip, .. } = drain.departed;
            by_vip.entry((scope, vip)).or_default().push(drain);
        }
        by_vip
    }

    /// Takes these out, if they are there.
    pub fn take_out(&mut self, done: &[Drain]) {
        let done = Self::of(done);
        let done = done.by_vip();
        self.0.retain(|drain| {
            let same = done.get(&(drain.departed.scope, drain.departed.vip));
            !same.is_some_and(|same| same.contains(&drain))
        });
    }

    /// Drops those whose backend is back, by the rules of their VIPs.
    pub(crate) fn cancel_back(&mut self, rules: &Rules) {
        self.cancel(|departed| departed.is_back(rules));
    }

    /// Drops those whose backend is back, as `stays` says.
    pub fn cancel(&mut self, stays: impl Fn(&Departed) -> bool) {
        self.0.retain(|drain| !stays(&drain.departed));
    }

    /// Takes those out that are due; `now` is in seconds since 1970.
    pub fn due(&mut self, now: u64) -> Vec<Drain> {
        self.0.extract_if(.., |drain| drain.due <= now).collect()
    }

    /// How long it takes until the next one is due; `None` if there is none.
    pub fn next(&self, now: u64) -> Option<Duration> {
        let due = self.0.iter().map(|drain| drain.due).min()?;
        Some(Duration::from_secs(due.saturating_sub(now)))
    }
}

fn file(state: &Path) -> PathBuf {
    record::beside(state, FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::Turn;

    fn drain(number: u8, due: u64) -> Drain {
        let backend = Turn { ip: Ipv4Addr::new(240, 0, 0, number), port: 0 };
        let vip = Ipv4Addr::new(169, 254, 37, 209);
        let departed =
            Departed { app: "shop".to_owned(), relationship: None, scope: 1, vip, backend };
        Drain { departed, cgroups: vec!["/sys/fs/cgroup/shop".into()], due, on_trial: false }
    }

    #[test]
    fn what_is_due_is_taken_out_and_the_rest_waits() {
        let mut drains = Drains(vec![drain(1, 100), drain(2, 90), drain(3, 101)]);
        assert_eq!(drains.next(80), Some(Duration::from_secs(10)));
        assert!(drains.due(89).is_empty());
        assert_eq!(drains.due(100), [drain(1, 100), drain(2, 90)]);
        assert_eq!(drains.next(200), Some(Duration::ZERO));
        assert_eq!(drains.due(200), [drain(3, 101)]);
        assert_eq!((drains.next(200), drains.is_empty()), (None, true));
    }

    #[test]
    fn a_backend_that_is_back_is_left_alone() {
        let mut drains = Drains(vec![drain(1, 100), drain(2, 100)]);
        drains.cancel(|departed| departed.backend.ip.octets()[3] == 1);
        assert_eq!(drains, Drains(vec![drain(2, 100)]));
    }

    #[test]
    fn the_file_is_readable_to_people_and_reads_back() {
        let drains = Drains(vec![drain(1, 100)]);
        let text = serde_json::to_string(&drains).unwrap();
        let expected = r#"[{"app":"shop","relationship":null,"scope":1,"vip":"169.254.37.209","ip":"240.0.0.1","port":0,"cgroups":["/sys/fs/cgroup/shop"],"due":100}]"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Drains>(&text).unwrap(), drains);
    }
}
