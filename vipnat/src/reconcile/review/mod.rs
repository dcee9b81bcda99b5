//! Reviews the links of all apps, some at a time.

mod difference;
mod look;
mod reviewed;
mod round;
#[cfg(test)]
mod tests;

pub(crate) use self::round::review_links;
pub use self::{
    difference::{LinkDifference, LinkFault},
    reviewed::ReviewedLinks,
    round::LinkReview,
};
