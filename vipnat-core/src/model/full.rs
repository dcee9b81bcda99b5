//! The error for a map that is too small.

/// A table or a change does not fit into a map. Displays the map, the shortage and a remedy.
#[derive(Debug, thiserror::Error)]
#[error("map `{map}` is full: {}, limit {limit}; {}", shortage(map, *needed, *free), remedy(map))]
pub struct MapFull {
    /// The map.
    pub map: &'static str,
    /// The number of elements needed: by the table, or with `free`, by the write that failed.
    pub needed: usize,
    /// The number of free elements in one piece, without those that the change itself will free.
    pub free: Option<usize>,
    /// The size of the map. For a whole table, the size of the largest possible map.
    pub limit: u32,
}

/// `needed 12 contiguous slots, free 4`. Only the slots of one VIP have to be contiguous.
fn shortage(map: &str, needed: usize, free: Option<usize>) -> String {
    let elements = match (map, free) {
        ("backends", Some(_)) => "contiguous slots",
        ("backends", None) => "slots",
        ("vips", _) => "entries",
        _ => "cursors",
    };
    let free = free.map_or_else(String::new, |free| format!(", free {free}"));
    format!("needed {needed} {elements}{free}")
}

fn remedy(map: &str) -> &'static str {
    match map {
        "backends" => "use fewer backends or smaller weights, or move apps to another machine",
        _ => "use fewer relationships, or move apps to another machine",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_does_not_say_that_it_has_more_room_than_is_needed() {
        let full = |map, needed, free, limit| MapFull { map, needed, free, limit }.to_string();
        assert_eq!(
            full("backends", 6_700_803, None, 4_194_304),
            "map `backends` is full: needed 6700803 slots, limit 4194304; use fewer backends or smaller \
             weights, or move apps to another machine"
        );
        assert_eq!(
            full("backends", 12, Some(4), 4096),
            "map `backends` is full: needed 12 contiguous slots, free 4, limit 4096; use fewer backends or \
             smaller weights, or move apps to another machine"
        );
        assert_eq!(
            full("vips", 7, Some(6), 1024),
            "map `vips` is full: needed 7 entries, free 6, limit 1024; use fewer relationships, or move \
             apps to another machine"
        );
        assert!(full("cursors", 1, Some(0), 1024).contains("needed 1 cursors, free 0, limit 1024"));
    }
}
