//! Differences between the links of a state and those that vipnat left.

use std::fmt;

/// A difference that a review of the links found. An apply repairs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkDifference {
    /// The app.
    pub app: String,
    /// The cgroup, by its path below the mount or its id; `None` if it is about the directory of the app.
    pub cgroup: Option<String>,
    /// The difference.
    pub fault: LinkFault,
}

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// A directory that vipnat did not make.
    UnexpectedDirectory,
    /// A directory is gone.
    NoDirectory,
    /// Some links are removed, detached or exchanged.
    Detached,
    /// A link runs another program, or there are pins that vipnat did not make.
    OtherProgram,
    /// The map `scope` does not give the cgroup to the app.
    SwitchedOff,
    /// A hook runs a second program of a vipnat, or another vipnat is attached above.
    NotAlone,
}

impl fmt::Display for LinkDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, cgroup, fault } = self;
        match cgroup {
            Some(cgroup) => write!(f, "app {app:?}, cgroup {cgroup}: {fault}"),
            None => write!(f, "app {app:?}: {fault}"),
        }
    }
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnexpectedDirectory => "its state has a directory that vipnat did not make",
            Self::NoDirectory => "a directory of its state was removed or renamed",
            Self::Detached => "links were removed, detached or exchanged",
            Self::OtherProgram => "links run another program, or there are more of them",
            Self::SwitchedOff => "the map scope was overwritten",
            Self::NotAlone => "a second vipnat program is attached there or above",
        })
    }
}
