//! What is compared, and what may differ.

use crate::{container::Container, record::Record};

/// One behaviour that is compared.
#[derive(Debug)]
pub struct Case {
    /// In kebab-case, unique.
    pub name: &'static str,
    /// The heading in docs/semantics.md.
    pub group: &'static str,
    /// What happens, in one line for docs/semantics.md.
    pub behaviour: &'static str,
    /// Acts in the container, and notes what its applications observe. The same for every
    /// translator: it must not ask for the [translator](Container::translator).
    pub run: fn(&Container, &mut Record),
    /// `None` if nothing may differ.
    pub known: Option<Known>,
}

/// A difference that is meant to be there. It must be there exactly so.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The lines that only the record behind iptables has, separated by `\n`.
    pub iptables: &'static str,
    /// The lines that only the record behind vipnat has.
    pub vipnat: &'static str,
    /// Why it is so, in one line for docs/semantics.md.
    pub why: &'static str,
}
