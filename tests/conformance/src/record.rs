//! The observations of an application, and the difference of two records.

use std::fmt;

use similar::{ChangeTag, TextDiff};

/// The observations of an application, as lines. The code that notes them leaves out accidents, such as
/// ports that the kernel picks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    lines: Vec<String>,
    skipped: Option<String>,
}

impl Record {
    /// Notes an observation. Each of its lines becomes a line of the record.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.lines.extend(line.as_ref().lines().map(str::to_owned));
    }

    /// Marks the case as one that can't run here, with the reason. It does not count, and the run reports it.
    pub fn skip(&mut self, why: impl Into<String>) {
        self.skipped = Some(why.into());
    }

    /// The lines noted so far.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The reason why the case can't run here, if it can't.
    pub fn skipped(&self) -> Option<&str> {
        self.skipped.as_deref()
    }

    /// The differences between this record and `other`.
    pub fn difference(&self, other: &Self) -> Difference {
        let (old, new) = (self.texts(), other.texts());
        let diff = TextDiff::from_slices(&old, &new);
        let changes = diff
            .iter_all_changes()
            .map(|change| (change.tag(), change.value().to_owned()))
            .collect();
        Difference { changes }
    }

    fn texts(&self) -> Vec<&str> {
        self.lines.iter().map(String::as_str).collect()
    }
}

/// Two records side by side, line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    changes: Vec<(ChangeTag, String)>,
}

impl Difference {
    /// Whether both are the same.
    pub fn is_none(&self) -> bool {
        self.changes.iter().all(|(tag, _)| *tag == ChangeTag::Equal)
    }

    /// The lines only the first record has, joined by newlines.
    pub fn first(&self) -> String {
        self.of(ChangeTag::Delete)
    }

    /// The lines only the second record has, joined by newlines.
    pub fn second(&self) -> String {
        self.of(ChangeTag::Insert)
    }

    fn of(&self, wanted: ChangeTag) -> String {
        let lines = self.changes.iter().filter(|(tag, _)| *tag == wanted);
        lines.map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")
    }
}

/// Displays all lines in the format of diff(1).
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes.iter().try_for_each(|(tag, line)| writeln!(f, "    {tag}{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(lines: &[&str]) -> Record {
        let mut record = Record::default();
        lines.iter().for_each(|line| record.line(line));
        record
    }

    #[test]
    fn equal_records_do_not_differ() {
        let difference = record(&["a", "b"]).difference(&record(&["a", "b"]));
        assert!(difference.is_none());
        assert_eq!((difference.first(), difference.second()), Default::default());
    }

    #[test]
    fn each_side_has_the_lines_the_other_lacks() {
        let difference = record(&["a", "b", "c"]).difference(&record(&["a", "x", "c", "d"]));
        assert!(!difference.is_none());
        assert_eq!(difference.first(), "b");
        assert_eq!(difference.second(), "x\nd");
        assert_eq!(difference.to_string(), "     a\n    -b\n    +x\n     c\n    +d\n");
    }

    #[test]
    fn the_order_of_lines_counts() {
        assert!(!record(&["a", "b"]).difference(&record(&["b", "a"])).is_none());
    }

    #[test]
    fn an_empty_record_is_different_from_any_other() {
        assert!(!record(&[]).difference(&record(&["a"])).is_none());
        assert!(!record(&["a"]).difference(&record(&[])).is_none());
    }
}
