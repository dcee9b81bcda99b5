//! The order of a VIP's entries within a step: vipnat writes the limited entry before the head entry, and
//! removes the head entry first.

use vipnat_common::VipKey;

use crate::model::Mapping;

/// The entries of a mapping in the order in which vipnat adds or changes them.
pub(super) fn keys_in_order(mapping: &Mapping) -> impl Iterator<Item = VipKey> {
    let limited = mapping.keys().filter(|key| !is_head(key));
    limited.chain(mapping.keys().filter(is_head))
}

/// Sorts entries into the order in which vipnat removes them.
pub(super) fn sort_removals(keys: &mut [VipKey]) {
    keys.sort_by_key(|key| (!is_head(key), key.to_bytes()));
}

/// Whether this is the head entry, which readers look up first.
pub(super) fn is_head(key: &VipKey) -> bool {
    *key == VipKey::head(key.app_id(), key.vip)
}
