//! One compared behaviour, and the difference that it may have.

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
    /// What its applications do. The same for every translator.
    pub run: Run,
    /// `None` if nothing may differ.
    pub known: Option<Known>,
}

/// Makes a table.
pub type Table = fn() -> String;

/// What the applications of a container do.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// One process plays a [script](crate::Session::play) behind this table.
    Script(Table, &'static str),
    /// One process plays scripts, each behind a table of its own.
    InTurn(&'static [(Table, &'static str)]),
    /// Several steps act in the container and note what its applications observe. They must not ask
    /// for the [translator](Container::translator).
    Steps(fn(&Container, &mut Record)),
}

impl Run {
    /// Runs in a container.
    pub(crate) fn inside(self, container: &Container, record: &mut Record) {
        match self {
            Self::Script(table, script) => container.play(&table(), script, record),
            Self::InTurn(steps) => {
                let mut session = None;
                for (table, script) in steps {
                    container.apply(&table());
                    session.get_or_insert_with(|| container.session()).play(script, record);
                }
            }
            Self::Steps(steps) => steps(container, record),
        }
    }
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
