//! The lines of one app in the index of names.

use std::{collections::BTreeMap, net::Ipv4Addr};

use memchr::memmem;

use crate::table::{App, OnBackendRemoved, Relationship};

/// The lines of an app: texts of some lines each, in the order of VIPs.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Vec<Text>);

/// Some lines, at least one.
#[derive(Clone, Debug)]
struct Text {
    /// No line has a lower VIP, and each line of the texts before has a lower one.
    from: Ipv4Addr,
    lines: String,
}

/// The length at which a text is full, in bytes. One of twice that length is divided.
const FULL: usize = 2048;

impl Lines {
    /// The lines of an app. `policy` gives that of a service.
    pub(super) fn of(
        name: &str,
        app: &App,
        policy: impl Fn(&str) -> OnBackendRemoved + Copy,
    ) -> Self {
        let all = &app.relationships;
        let numbers = all.values().enumerate();
        let mut order: Vec<_> =
            numbers.map(|(number, of)| (of.vip.to_bits(), number as u32)).collect();
        // Those that share a VIP stay in the order of names.
        order.sort_unstable();
        let mut writer = Writer::default();
        let mut sharing = Vec::new();
        for shared in order.chunk_by(|one, other| one.0 == other.0) {
            sharing.clear();
            sharing.extend(shared.iter().map(|(_, number)| all.nth_named(*number as usize)));
            let vip = Ipv4Addr::from_bits(shared[0].0);
            write_line(writer.at(vip), name, vip, &sharing, policy);
        }
        writer.0
    }

    /// The lines of all apps in the text of a file. If a VIP has several, the first counts.
    pub(super) fn in_text(text: &str) -> BTreeMap<String, Self> {
        let mut apps: BTreeMap<&str, Vec<(Ipv4Addr, &str)>> = BTreeMap::new();
        for line in text.lines() {
            if let Some((app, vip)) = owner(line) {
                apps.entry(app).or_default().push((vip, line));
            }
        }
        let lines = |mut all: Vec<(Ipv4Addr, &str)>| {
            all.sort_by_key(|(vip, _)| *vip);
            all.dedup_by_key(|(vip, _)| *vip);
            let mut writer = Writer::default();
            for (vip, line) in all {
                let to = writer.at(vip);
                *to += line;
                *to += "\n";
            }
            writer.0
        };
        apps.into_iter().map(|(app, all)| (app.to_owned(), lines(all))).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All lines, in pieces.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|text| text.lines.as_str())
    }

    /// The line of a VIP of this app, without its end.
    pub(super) fn line(&self, app: &str, vip: Ipv4Addr) -> Option<&str> {
        let text = &self.0.get(self.place(vip))?.lines;
        let start = format!("{app} {vip} ");
        let mut found = memmem::find_iter(text.as_bytes(), &start);
        let at = found.find(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n')?;
        text[at..].lines().next()
    }

    /// Replaces the line of a VIP by this one, with its end. An empty one removes it.
    pub(super) fn replace(&mut self, vip: Ipv4Addr, line: &str) {
        let place = self.place(vip);
        let Some(Text { from, lines }) = self.0.get_mut(place) else {
            if !line.is_empty() {
                self.0.push(Text { from: vip, lines: line.to_owned() });
            }
            return;
        };
        *from = vip.min(*from);
        let mut start = 0;
        let mut end = 0;
        for other in lines.split_inclusive('\n') {
            // Each line has an owner.
            let of = owner(other).map_or(vip, |(_, of)| of);
            if of < vip {
                start += other.len();
            }
            if of <= vip {
                end += other.len();
            } else {
                break;
            }
        }
        lines.replace_range(start..end, line);
        if lines.is_empty() {
            self.0.remove(place);
        } else if lines.len() > 2 * FULL {
            self.divide(place);
        }
    }

    /// Divides a text into two.
    fn divide(&mut self, place: usize) {
        let lines = &mut self.0[place].lines;
        let middle = memchr::memchr(b'\n', &lines.as_bytes()[FULL..]);
        let rest = middle.map(|middle| lines.split_off(FULL + middle + 1)).unwrap_or_default();
        if let Some((_, from)) = owner(&rest) {
            self.0.insert(place + 1, Text { from, lines: rest });
        }
    }

    /// The number of the text to which the line of a VIP belongs.
    fn place(&self, vip: Ipv4Addr) -> usize {
        self.0.partition_point(|text| text.from <= vip).saturating_sub(1)
    }
}

/// Adds lines in the order of VIPs.
#[derive(Default)]
struct Writer(Lines);

impl Writer {
    /// The text for the next line, which has this VIP.
    fn at(&mut self, vip: Ipv4Addr) -> &mut String {
        let texts = &mut self.0.0;
        if texts.last().is_none_or(|last| last.lines.len() >= FULL) {
            // Most apps have few lines.
            let room = if texts.is_empty() { 0 } else { FULL + FULL / 8 };
            texts.push(Text { from: vip, lines: String::with_capacity(room) });
        }
        let last = texts.len() - 1;
        &mut texts[last].lines
    }
}

/// The app and the VIP of a line.
fn owner(line: &str) -> Option<(&str, Ipv4Addr)> {
    let mut words = line.splitn(3, ' ');
    let (app, vip, _) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    Some((app, vip))
}

/// Writes the line of a VIP, which these relationships share.
pub(super) fn write_line(
    text: &mut String,
    app: &str,
    vip: Ipv4Addr,
    all: &[(&str, &Relationship)],
    policy: impl Fn(&str) -> OnBackendRemoved,
) {
    let mut number = itoa::Buffer::new();
    let [a, b, c, d] = vip.octets();
    *text += app;
    for (before, octet) in [(" ", a), (".", b), (".", c), (".", d)] {
        *text += before;
        *text += number.format(octet);
    }
    *text += " ";
    let Some((first, of_first)) = all.first() else {
        return;
    };
    let again = |number: usize| {
        let ((name, of), (before, of_before)) = (all[number], all[number - 1]);
        (name, &of.service) == (before, &of_before.service)
    };
    *text += first;
    for number in (1..all.len()).filter(|number| !again(*number)) {
        *text += "\t";
        *text += all[number].0;
    }
    *text += " ";
    *text += &of_first.service;
    for number in (1..all.len()).filter(|number| !again(*number)) {
        *text += "\t";
        *text += &all[number].1.service;
    }
    match policy(&of_first.service) {
        OnBackendRemoved::Keep => {}
        OnBackendRemoved::Kill => *text += " kill",
        OnBackendRemoved::Drain(seconds) => {
            *text += " drain ";
            *text += number.format(seconds);
        }
    }
    *text += "\n";
}
