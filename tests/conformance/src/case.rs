//! One compared behaviour, and the difference that it may have.

use crate::{container::Container, record::Record};

/// One behaviour that the test compares.
#[derive(Debug)]
pub struct Case {
    /// Its unique name, in kebab-case.
    pub name: &'static str,
    /// The heading in docs/semantics.md.
    pub group: &'static str,
    /// The behaviour, in one line for docs/semantics.md.
    pub behaviour: &'static str,
    /// The actions of its applications. They are the same for every translator.
    pub run: Run,
    /// The known difference; `None` if there must be none.
    pub known: Option<Known>,
}

/// A function that makes a table.
pub type Table = fn() -> String;

/// The actions of the applications in a container.
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

/// An intended difference. The records must differ in exactly these lines.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The lines that only the record behind iptables has, separated by `\n`.
    pub iptables: &'static str,
    /// The lines that only the record behind vipnat has.
    pub vipnat: &'static str,
    /// The reason, in one line for docs/semantics.md.
    pub why: &'static str,
}
