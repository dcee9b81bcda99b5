//! The decision: given a destination and the maps, where does a new connection go?

use crate::{destination::Destination, lookup::Lookup, outlined::Outlined, verdict::Verdict};

/// How many lookups [`decide()`] makes at most, while one misses or sees a change.
///
/// A lookup can miss an entry while it is replaced. The kernel replaces a hash element by putting the
/// new one first in its chain and then taking the old one out; a lookup that is between the two places
/// finds neither (`htab_map_update_elem` in kernel/bpf/hashtab.c). With two neighbours that are
/// replaced all the time, one of a thousand lookups did. So an address counts as "no VIP" only after
/// this many misses in a row.
pub const MAX_LOOKUPS: u32 = 5;

/// Decides where a connect or the first datagram of a flow goes.
///
/// Takes one turn of the VIP's round robin if, and only if, it answers [`Verdict::Redirect`]. There are
/// two exceptions: a change of the table between two of its loads may cost a turn, and UDP connects to
/// port 0 never take one.
#[inline(always)]
pub fn decide<M: Outlined>(maps: &M, to: &Destination) -> Verdict {
    // An address outside the range of VIPs costs no lookup.
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
