//! The decision: it takes a destination and the maps, and returns where a new connection goes.

use crate::{destination::Destination, lookup::Lookup, outlined::Outlined, verdict::Verdict};

/// The largest number of lookups that [`decide()`] makes. It makes another one after a miss or a change.
///
/// A lookup can miss an entry while the kernel replaces it. The kernel puts the new hash element first in
/// its chain, and then takes the old one out. A lookup that is between the two places finds neither
/// (`htab_map_update_elem` in kernel/bpf/hashtab.c). With two neighbours that were replaced all the time,
/// one of a thousand lookups missed. So an address counts as "no VIP" only after this many misses in a row.
pub const MAX_LOOKUPS: u32 = 5;

/// Decides where to send a connect or the first datagram of a flow.
///
/// Takes one turn of the VIP's round robin if, and only if, it answers [`Verdict::Redirect`]. There are
/// two exceptions. A change of the table between two of its loads may cost a turn. UDP connects to
/// port 0 never take one.
#[inline(always)]
pub fn decide<M: Outlined>(maps: &M, to: &Destination) -> Verdict {
    // An address outside 169.254.0.0/16 costs no lookup.
    if !to.may_be_vip() {
        return Verdict::Pass;
    }
    let mut changed = false;
    for _ in 0..MAX_LOOKUPS {
        match maps.lookup_once(to) {
            Lookup::Verdict(verdict) => return verdict,
            Lookup::Changed => changed = true,
            Lookup::Miss => {}
        }
    }
    if changed { Verdict::Retry } else { Verdict::Pass }
}

#[cfg(test)]
mod tests;
