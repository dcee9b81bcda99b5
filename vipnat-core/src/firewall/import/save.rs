//! Reads the output of `iptables-save`.

use std::{collections::HashMap, net::Ipv4Addr, str::FromStr as _};

use super::remark::Remark;
use crate::table::well_known;

/// The rules by table and chain, and remarks about lines that `iptables-save` does not print.
#[derive(Default)]
pub(super) struct Saved<'a> {
    pub(super) chains: HashMap<(&'a str, &'a str), Vec<Rule<'a>>>,
    pub(super) bad: Vec<Remark>,
}

/// The parts of a rule that matter here.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule<'a> {
    /// Its line in the file, from 1.
    pub(super) line: usize,
    pub(super) text: &'a str,
    pub(super) destination: Option<Prefix>,
    /// The only protocol that it matches; `None`: all.
    pub(super) protocol: Option<Protocol>,
    pub(super) port: Option<u16>,
    pub(super) statistic: Option<Statistic>,
    pub(super) comment: Option<String>,
    /// Whether the first packet of a connection to a VIP can't meet it. The nat table sees no other packet.
    pub(super) never: bool,
    /// Conditions and options that a relationship doesn't have, each with its kind.
    pub(super) foreign: Vec<String>,
    pub(super) target: Option<String>,
    pub(super) to_destination: Vec<String>,
    pub(super) reject_with: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Other,
}

/// The `statistic` match of a rule: which share of packets it takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Statistic {
    Nth { every: u32, packet: u32 },
    Random { probability: f64 },
}

/// Addresses whose bits under the mask are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    bits: u32,
    mask: u32,
}

impl Prefix {
    /// 169.254.0.0/16.
    pub(super) const VIPS: Self = Self { bits: 0xa9fe_0000, mask: 0xffff_0000 };

    fn parse(text: &str) -> Option<Self> {
        let (ip, mask) = text.split_once('/').unwrap_or((text, "32"));
        let mask = match mask.parse() {
            Ok(length @ 0..=32_u32) => u32::MAX.checked_shl(32 - length).unwrap_or(0),
            _ => Ipv4Addr::from_str(mask).ok()?.to_bits(),
        };
        Some(Self { bits: Ipv4Addr::from_str(ip).ok()?.to_bits() & mask, mask })
    }

    /// The addresses in both, if there are any.
    pub(super) fn and(self, other: Self) -> Option<Self> {
        let differs = (self.bits ^ other.bits) & self.mask & other.mask != 0;
        let both = Self { bits: self.bits | other.bits, mask: self.mask | other.mask };
        (!differs).then_some(both)
    }

    /// Whether it has an address.
    pub(super) fn contains(self, ip: Ipv4Addr) -> bool {
        ip.to_bits() & self.mask == self.bits
    }

    /// The first and the last address, if the mask is a prefix length.
    pub(super) fn ends(self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let last = Ipv4Addr::from_bits(self.bits | !self.mask);
        (self.mask.leading_ones() == self.mask.count_ones())
            .then(|| (Ipv4Addr::from_bits(self.bits), last))
    }

    /// The address, if there is only one.
    pub(super) fn single(self) -> Option<Ipv4Addr> {
        (self.mask == u32::MAX).then(|| Ipv4Addr::from_bits(self.bits))
    }
}

impl<'a> Saved<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let mut saved = Self::default();
        let mut table = None;
        for (line, text) in (1..).zip(text.lines()) {
            let mut bad = |reason: &str| {
                let help = "give the output of iptables-save, unchanged";
                saved.bad.push(Remark::new(line, text, reason, help));
            };
            let rule = text.trim();
            match rule.chars().next() {
                None | Some('#' | ':') => {}
                Some('*') => table = Some(&rule[1..]),
                _ if rule == "COMMIT" => table = None,
                _ => match (table, Rule::parse(line, text)) {
                    (_, Err(reason)) => bad(reason),
                    (None, Ok(_)) => bad("a rule outside of any table"),
                    (Some(table), Ok((chain, rule))) => {
                        saved.chains.entry((table, chain)).or_default().push(rule);
                    }
                },
            }
        }
        saved
    }
}

impl<'a> Rule<'a> {
    /// Reads a line: the chain of the rule, and the rule.
    fn parse(line: usize, text: &'a str) -> Result<(&'a str, Self), &'static str> {
        // With `iptables-save -c`, counters come first.
        let rest = match text.trim_start().strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or("counters without an end")?.1,
            None => text,
        };
        let rest = rest.trim_start();
        let rest = rest.strip_prefix("-A ").ok_or("neither a rule (-A …) nor a table")?;
        let (chain, rest) = rest.trim_start().split_once(' ').unwrap_or((rest.trim(), ""));
        let mut rule = Self { line, text: text.trim(), ..Self::default() };
        let mut words = words(rest)?.into_iter().peekable();
        let mut negated = false;
        while let Some(word) = words.next() {
            if word == "!" {
                negated = true;
                continue;
            }
            let values = match arguments(&word) {
                Some(0) => Vec::new(),
                Some(_) => vec![words.next().ok_or("an option without its value")?],
                // An unknown option takes all words up to the next option.
                None => {
                    let mut values = Vec::new();
                    while let Some(value) = words.next_if(|word| !word.starts_with(['-', '!'])) {
                        values.push(value);
                    }
                    values
                }
            };
            match (negated, for_vips(negated, &word, &values)) {
                (false, None) => rule.option(&word, values),
                (true, None) => {
                    rule.foreign.push(format!("a negation (`! {word} {}`)", values.join(" ")));
                }
                // A condition that always holds for VIPs is dropped; one that never does makes the rule void.
                (negated, Some(holds)) => rule.never |= negated == holds,
            }
            negated = false;
        }
        Ok((chain, rule))
    }

    fn option(&mut self, name: &str, values: Vec<String>) {
        let value = values.first().map_or("", String::as_str);
        let foreign = match name {
            "-d" | "--destination" | "--dst" => {
                self.destination = Prefix::parse(value);
                self.destination.is_none().then_some("an address that is not IPv4")
            }
            "-p" | "--protocol" | "--proto" => {
                self.protocol = match value.to_ascii_lowercase().as_str() {
                    "tcp" | "6" => Some(Protocol::Tcp),
                    "udp" | "17" => Some(Protocol::Udp),
                    "all" | "0" => None,
                    _ => Some(Protocol::Other),
                };
                None
            }
            "--dport" | "--destination-port" => {
                self.port = value.parse().ok().filter(|port| *port > 0);
                self.port.is_none().then_some("more than one port, or none")
            }
            "--mode" | "--every" | "--packet" | "--probability" => {
                self.statistic(name, value).is_none().then_some("an unknown statistic")
            }
            "--ctstate" | "--state" => {
                self.never |= !value.split(',').any(|state| state == "NEW");
                None
            }
            "-m" | "--match" => {
                const KNOWN: [&str; 7] =
                    ["tcp", "udp", "statistic", "comment", "conntrack", "state", "addrtype"];
                (!KNOWN.contains(&value)).then_some("a match that vipnat doesn't have")
            }
            "-s" | "--source" | "--src" => (value != "0.0.0.0/0").then_some("a source"),
            "-o" | "--out-interface" => Some("an interface"),
            "--mark" => Some("a mark"),
            "--sport" | "--source-port" => Some("a source port"),
            "--comment" => {
                self.comment = values.into_iter().next();
                return;
            }
            "-j" | "--jump" | "-g" | "--goto" => {
                self.target = values.into_iter().next();
                return;
            }
            "--to-destination" => {
                self.to_destination.extend(values);
                return;
            }
            "--reject-with" => {
                self.reject_with = values.into_iter().next();
                return;
            }
            // They only matter for ranges of addresses or ports.
            "--random" | "--persistent" => None,
            _ => Some("an option that vipnat doesn't have"),
        };
        if let Some(what) = foreign {
            self.foreign.push(format!("{what} (`{name} {}`)", values.join(" ")));
        }
    }

    fn statistic(&mut self, name: &str, value: &str) -> Option<()> {
        match (name, value, &mut self.statistic) {
            ("--mode", "nth", statistic) => {
                *statistic = Some(Statistic::Nth { every: 1, packet: 0 });
            }
            ("--mode", "random", statistic) => {
                *statistic = Some(Statistic::Random { probability: 1.0 });
            }
            ("--every", value, Some(Statistic::Nth { every, .. })) => {
                *every = value.parse().ok().filter(|every| *every > 0)?;
            }
            ("--packet", value, Some(Statistic::Nth { packet, .. })) => {
                *packet = value.parse().ok()?;
            }
            ("--probability", value, Some(Statistic::Random { probability })) => {
                *probability = value.parse().ok().filter(|p| (0.0..=1.0).contains(p))?;
            }
            _ => return None,
        }
        Some(())
    }
}

/// Whether a condition, before it is negated, holds for all packets that programs of this machine send to
/// VIPs (`true`), or for none (`false`). `None` if that depends on the packet.
fn for_vips(negated: bool, option: &str, values: &[String]) -> Option<bool> {
    let [value] = values else {
        return None;
    };
    match option {
        "-d" | "--destination" | "--dst" if negated => {
            let these = Prefix::parse(value)?;
            match these.and(Prefix::VIPS) {
                None => Some(false),
                Some(Prefix::VIPS) => Some(true),
                Some(both) => both.single().and_then(well_known).map(|_| false),
            }
        }
        // VIPs are unicast addresses of other machines.
        "--dst-type" => Some(value.split(',').any(|kind| kind == "UNICAST")),
        // Packets in OUTPUT have no input interface.
        "-i" | "--in-interface" => Some(value == "+"),
        _ => None,
    }
}

/// The number of words that follow an option, if it is known.
fn arguments(option: &str) -> Option<usize> {
    match option {
        "-d" | "--destination" | "--dst" | "-p" | "--protocol" | "--proto" | "--dport"
        | "--destination-port" | "--mode" | "--every" | "--packet" | "--probability"
        | "--ctstate" | "--state" | "-m" | "--match" | "-s" | "--source" | "--src" | "-i"
        | "--in-interface" | "-o" | "--out-interface" | "--mark" | "--sport" | "--source-port"
        | "--comment" | "--dst-type" | "-j" | "--jump" | "-g" | "--goto" | "--to-destination"
        | "--reject-with" => Some(1),
        "--random" | "--persistent" => Some(0),
        _ => None,
    }
}

/// Splits words like iptables-restore: quotation marks join words, and inside them a backslash escapes the
/// next character.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => {
                word.get_or_insert_default()
                    .push(chars.next().ok_or("a quotation without an end")?);
            }
            c if c.is_ascii_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    if quoted {
        return Err("a quotation without an end");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_apart_as_iptables_restore_does() {
        let text = r#"-m comment --comment "a \"b\" \\ \'c" -j  X"#;
        let expected = ["-m", "comment", "--comment", r#"a "b" \ 'c"#, "-j", "X"];
        assert_eq!(words(text).unwrap(), expected);
        assert_eq!(words("\"\" x").unwrap(), ["", "x"]);
        assert!(words("\"x").is_err() && words("\"x\\").is_err());
    }

    #[test]
    fn prefixes() {
        let prefix = |text| Prefix::parse(text).unwrap();
        assert_eq!(prefix("169.254.0.0/16"), Prefix::VIPS);
        assert_eq!(prefix("169.254.3.4/255.255.0.0"), Prefix::VIPS);
        assert_eq!(prefix("1.2.3.4").single(), Some(Ipv4Addr::new(1, 2, 3, 4)));
        assert_eq!(prefix("0.0.0.0/0").and(prefix("1.2.3.4")), Some(prefix("1.2.3.4/32")));
        assert_eq!(Prefix::VIPS.and(prefix("1.2.3.4")), None);
        for text in ["", "1.2.3.4/33", "1.2.3.4/", "::1", "1.2.3.4/x", "db/32"] {
            assert_eq!(Prefix::parse(text), None, "{text}");
        }
    }
}
