//! The lines of one app in the index of names.

use std::{collections::BTreeMap, net::Ipv4Addr};

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
const FULL: usize = 512;

impl Lines {
    /// The lines of an app. `policy` gives that of a service.
    pub(super) fn of(
        name: &str,
        app: &App,
        policy: impl Fn(&str) -> OnBackendRemoved + Copy,
    ) -> Self {
        let all = &app.relationships;
        let numbers = all.values().enumerate();
        // The number of each relationship below its VIP: a number sorts faster than a pair. Those that share a
        // VIP stay in the order of names.
        let key = |(number, of): (usize, &Relationship)| {
            u64::from(of.vip.to_bits()) << 32 | number as u64
        };
        let mut order: Vec<_> = numbers.map(key).collect();
        order.sort_unstable();
        // All are fetched in one go. One by one, before each line, takes 60 % longer.
        let named = |key: &u64| {
            let (name, of) = all.nth_named(*key as u32 as usize);
            (of.vip, name, &*of.service)
        };
        let named: Vec<(Ipv4Addr, &str, &str)> = order.iter().map(named).collect();
        let mut writer = Writer::new(all.len());
        for shared in named.chunk_by(|(one, ..), (other, ..)| one == other) {
            let (vip, _, service) = shared[0];
            let pairs = shared.iter().map(|(_, name, service)| (*name, *service));
            write_line(writer.at(vip), name, vip, pairs, policy(service));
        }
        writer.lines
    }

    /// The lines of all apps in the text of a file. If a VIP has several, the first counts.
    pub(super) fn in_text(text: &str) -> BTreeMap<String, Self> {
        let mut apps: BTreeMap<&str, Vec<(Ipv4Addr, &str)>> = BTreeMap::new();
        // The lines of one app are adjacent.
        let mut rest = text.lines().filter_map(|line| Some((owner(line)?, line))).peekable();
        while let Some(((app, vip), line)) = rest.next() {
            let all = apps.entry(app).or_default();
            all.push((vip, line));
            while let Some(((_, vip), line)) = rest.next_if(|((other, _), _)| *other == app) {
                all.push((vip, line));
            }
        }
        let lines = |mut all: Vec<(Ipv4Addr, &str)>| {
            all.sort_by_key(|(vip, _)| *vip);
            all.dedup_by_key(|(vip, _)| *vip);
            let mut writer = Writer::new(all.len());
            for (vip, line) in all {
                let to = writer.at(vip);
                *to += line;
                *to += "\n";
            }
            writer.lines
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
        let mut wanted = String::with_capacity(16);
        write_vip(&mut wanted, vip);
        wanted += " ";
        let mut lines = self.0.get(self.place(vip))?.lines.lines();
        lines.find(|line| {
            line.get(app.len() + 1..).is_some_and(|rest| rest.starts_with(wanted.as_str()))
        })
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
struct Writer {
    lines: Lines,
    /// The room that a text gets.
    room: usize,
}

/// The room for a usual line.
const LINE: usize = 64;

impl Writer {
    /// Prepares for this number of lines.
    fn new(lines: usize) -> Self {
        let room = (lines * LINE).min(FULL + 2 * LINE);
        Self { lines: Lines(Vec::with_capacity(lines * LINE / FULL + 1)), room }
    }

    /// The text for the next line, which has this VIP.
    fn at(&mut self, vip: Ipv4Addr) -> &mut String {
        let texts = &mut self.lines.0;
        if texts.last().is_none_or(|last| last.lines.len() >= FULL) {
            texts.push(Text { from: vip, lines: String::with_capacity(self.room) });
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

/// Writes the line of a VIP, which these relationships share, each with its service.
pub(super) fn write_line<'a>(
    text: &mut String,
    app: &str,
    vip: Ipv4Addr,
    all: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    policy: OnBackendRemoved,
) {
    *text += app;
    *text += " ";
    write_vip(text, vip);
    let words = |text: &mut String, word: fn((&'a str, &'a str)) -> &'a str| {
        let (mut before, mut separator) = (None, " ");
        for pair in all.clone() {
            if before != Some(pair) {
                *text += separator;
                *text += word(pair);
                (before, separator) = (Some(pair), "\t");
            }
        }
    };
    words(text, |(name, _)| name);
    words(text, |(_, service)| service);
    match policy {
        OnBackendRemoved::Keep => {}
        OnBackendRemoved::Kill => *text += " kill",
        OnBackendRemoved::Drain(seconds) => {
            *text += " drain ";
            *text += itoa::Buffer::new().format(seconds);
        }
    }
    *text += "\n";
}

fn write_vip(text: &mut String, vip: Ipv4Addr) {
    let mut number = itoa::Buffer::new();
    let [a, b, c, d] = vip.octets();
    *text += number.format(a);
    for octet in [b, c, d] {
        *text += ".";
        *text += number.format(octet);
    }
}
