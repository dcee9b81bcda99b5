//! Places the names of lines.

/// The height of a name.
const NAME: i32 = 15;

/// Moves heights apart until names fit, and keeps their order. Two heights that are too close share the
/// distance.
pub(super) fn apart(mut heights: Vec<i32>) -> Vec<i32> {
    for _ in 0..100 {
        for i in 1..heights.len() {
            let missing = NAME - (heights[i] - heights[i - 1]);
            if missing > 0 {
                heights[i - 1] -= missing / 2;
                heights[i] += missing - missing / 2;
            }
        }
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_order_and_do_not_overlap() {
        let heights = apart(vec![10, 100, 101, 101, 300]);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= NAME), "{heights:?}");
        assert_eq!((heights[0], heights[4]), (10, 300));
        assert!((heights[2] - 101).abs() <= 2, "{heights:?}");
    }
}
