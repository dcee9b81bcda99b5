//! Obstacles to attaching to a cgroup: the kernel's rules, and the messages for people.

use std::{fmt, path::PathBuf};

use aya_obj::generated::{BPF_F_ALLOW_MULTI, BPF_F_ALLOW_OVERRIDE};
use vipnat_core::text::shown_name;

use super::owner::Program;
use crate::kernel::hook_query::OnHook;

/// The effect of a link on the programs of one hook, on its cgroup and above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// The link runs beside them all.
    Joins,
    /// A program allows no others, so the kernel refuses the link. `level` counts the cgroups from the link's
    /// own one upwards.
    Alone { level: usize, program: u32 },
    /// A program of a cgroup above would not run for this cgroup any more.
    SwitchesOff { level: usize, program: u32 },
}

/// Predicts the effect of a link. `levels` are the cgroup itself and those above it, upwards.
///
/// The nearest cgroup above with programs decides whether the kernel takes the link
/// (`hierarchy_allows_attach` in kernel/bpf/cgroup.c). For a socket, the programs of the nearest cgroup that
/// has any run, and above it only those that allow several (`compute_effective_progs`).
pub(crate) fn meeting(levels: &[&OnHook]) -> Meeting {
    let [own, above @ ..] = levels else {
        return Meeting::Joins;
    };
    let has = |on: &OnHook, flag| on.flags & flag != 0;
    if let [program, ..] = own.programs[..]
        && !has(own, BPF_F_ALLOW_MULTI)
    {
        return Meeting::Alone { level: 0, program };
    }
    let nearest = (1..).zip(above).find_map(|(level, on)| Some((level, on, *on.programs.first()?)));
    match nearest {
        Some((_, on, _)) if has(on, BPF_F_ALLOW_MULTI) => Meeting::Joins,
        Some((level, on, program)) if !has(on, BPF_F_ALLOW_OVERRIDE) => {
            Meeting::Alone { level, program }
        }
        Some((level, _, program)) if own.programs.is_empty() => {
            Meeting::SwitchesOff { level, program }
        }
        _ => Meeting::Joins,
    }
}

/// The place of another vipnat relative to the cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    There,
    Above,
    Below,
}

/// An obstacle. Its display names it, its place and the remedy.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// A program allows no others beside it or below it.
    Alone { hook: &'static str, program: Program, at: PathBuf, below: bool },
    /// The link would switch off the program of a cgroup above.
    Inherited { hook: &'static str, program: Program, at: PathBuf },
    /// Another vipnat translates this cgroup, or one above or below.
    Vipnat { dir: Option<PathBuf>, program: Program, place: Place, at: PathBuf },
    /// A link of ours is attached that is not pinned.
    Doubled { hook: &'static str },
}

impl Obstacle {
    /// Whether it may vanish in a moment by itself: a kernel worker detaches links without an owner.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Vipnat { dir: None, .. } | Self::Doubled { .. })
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone { hook, program, at, below } => {
                let (at, id) = (shown_name(at), program.id);
                let place = if *below { "below it" } else { "beside it" };
                write!(
                    f,
                    "{program} on cgroup {at} allows no other program {place} ({hook}); attach that one \
                     with \"multi\", or detach it: bpftool cgroup detach {at} {hook} id {id}"
                )
            }
            Self::Inherited { hook, program, at } => write!(
                f,
                "this would switch off {program}, which it inherits from cgroup {} ({hook}); attach that \
                 one with \"multi\" (bpftool cgroup attach), or accept this with --override-inherited",
                shown_name(at)
            ),
            Self::Vipnat { dir, program, place, at } => {
                let at = shown_name(at);
                match place {
                    Place::There => write!(f, "another vipnat translates it ({program})"),
                    Place::Above => {
                        write!(f, "another vipnat translates cgroup {at} above it ({program})")
                    }
                    Place::Below => {
                        write!(f, "another vipnat translates cgroup {at} inside it ({program})")
                    }
                }?;
                match dir {
                    Some(dir) => write!(
                        f,
                        "; leave the cgroup to one of the two: vipnat --bpffs {} list",
                        shown_name(dir)
                    ),
                    None => f.write_str(
                        ", and its state directory was not found; list its links: bpftool link show",
                    ),
                }
            }
            Self::Doubled { hook } => write!(
                f,
                "{hook} of this vipnat is attached there twice, since a process has a removed link \
                 open; apply again as root with CAP_SYS_ADMIN, which detaches it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(flags: u32, programs: &[u32]) -> OnHook {
        OnHook { flags, programs: programs.to_vec() }
    }

    #[test]
    fn the_nearest_programs_above_decide_what_a_link_does_to_them() {
        let (none, one, multi) = (on(0, &[]), 7, BPF_F_ALLOW_MULTI);
        let (alone, weak) = (on(0, &[one]), on(BPF_F_ALLOW_OVERRIDE, &[one]));
        let several = on(multi, &[1, 2]);
        for (levels, expected) in [
            (vec![&none], Meeting::Joins),
            (vec![&none, &none, &several], Meeting::Joins),
            (vec![&several, &none], Meeting::Joins),
            (vec![&alone], Meeting::Alone { level: 0, program: one }),
            (vec![&weak, &several], Meeting::Alone { level: 0, program: one }),
            (vec![&none, &none, &alone], Meeting::Alone { level: 2, program: one }),
            (vec![&several, &alone], Meeting::Alone { level: 1, program: one }),
            (vec![&none, &weak], Meeting::SwitchesOff { level: 1, program: one }),
            (vec![&none, &none, &weak, &alone], Meeting::SwitchesOff { level: 2, program: one }),
            // The program above is off for this cgroup already.
            (vec![&several, &weak], Meeting::Joins),
            (vec![&none, &several, &weak], Meeting::Joins),
            (vec![&none, &several, &alone], Meeting::Joins),
        ] {
            assert_eq!(meeting(&levels), expected, "{levels:?}");
        }
    }
}
