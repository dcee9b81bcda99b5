//! A round of reviews: some apps and cgroups at a time, until all had their turn.
//!
//! A review proves with few system calls that links are as they were when they were read last: the stamps of
//! their directories are the same, the same programs are on the cgroup, no vipnat is above, and the map
//! `scope` gives the cgroup to its app. It locks the state only to read links again for which that is not so.

use std::time::{Duration, Instant};

use vipnat_common::AppId;

use super::{look::Look, reviewed::ReviewedLinks};
use crate::{
    kernel::error::Result,
    reconcile::{context::Context, holders::CgroupHolders},
};

/// The time for one part of a round. In between, cgroups can be attached.
const PART: Duration = Duration::from_millis(2);

/// The position in a round.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkReview {
    /// The app and cgroup at which to go on; `None` before a round.
    next: Option<(AppId, u64)>,
}

/// See [`Session::review_links`](crate::reconcile::Session::review_links).
pub(crate) fn review_links(
    context: &Context,
    holders: &mut CgroupHolders,
    review: &mut LinkReview,
) -> Result<ReviewedLinks> {
    let begun = Instant::now();
    let mut reviewed = ReviewedLinks::default();
    let tree = context.tree()?;
    let others = context.others(&context.dir, &tree);
    let mut look = Look::new(&context.dir, &tree, &others)?;
    if review.next.is_none() {
        look.at_apps(holders, &mut reviewed)?;
    }
    let mut next = Some(review.next.unwrap_or_default());
    while let Some((from_app, from)) = next
        && let Some(app_id) = holders.from(from_app)
    {
        let from = if app_id == from_app { from } else { 0 };
        let goes_on = from > 0 || look.at_app(holders, app_id, &mut reviewed)?;
        let cgroup = holders.cgroup_from(app_id, from).filter(|_| goes_on);
        next = match cgroup {
            Some(cgroup) => {
                look.at_cgroup(holders, (app_id, cgroup), &mut reviewed)?;
                Some((app_id, cgroup.saturating_add(1)))
            }
            None => app_id.0.checked_add(1).map(|app_id| (AppId(app_id), 0)),
        };
        if begun.elapsed() >= PART {
            review.next = next;
            reviewed.done = next.is_none();
            return Ok(reviewed);
        }
    }
    review.next = None;
    reviewed.done = true;
    Ok(reviewed)
}
