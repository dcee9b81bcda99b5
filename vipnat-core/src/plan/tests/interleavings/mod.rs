//! Carries steps out with the accesses of readers in between, in every possible order.
//!
//! The tests in `each_write` run a whole decision between two whole writes. Here the model stops a decision
//! at each of its accesses, and within them. Meanwhile the writer takes any number of steps. Each step is so
//! small that no reader can see half of it. Both sides run vipnat's own code. Readers run [`decide`] and
//! [`rebind`] over a model of the maps. The writer runs [`Plan::steps`] and [`Reclaim::steps`] through
//! [`execute`], one change after the other. So slots and elements are used again as soon as possible.
//!
//! loom would run each schedule; a reader beside two plans has some 10^15 of them. But the writer does
//! not depend on readers, and a reader knows only the values that it got. So ten thousand states, each
//! visited once, stand for all schedules.
//!
//! The model assumes:
//!
//! - All CPUs see the writes in their order. While a slot is written, a reader gets any mixture of old and
//!   new words of four bytes, each read once. A [`Range`] is read in one piece.
//! - A lookup returns an element that was in the bucket at some time while the lookup ran. It has the key
//!   when the lookup compares the two. The reader reads the element's value later. The writer can fill a
//!   removed element for its next use at once. All keys share one bucket. If the bucket changes, a lookup
//!   may miss an entry that is there.
//! - At most [`MAX_LOOKUPS`] - 1 looks of one decision miss a VIP that is there: with one more, the decision
//!   would let it pass. An attempt between two limited entries counts as a miss.
//! - A grace period ends after the end of each reader that began before it.
//!
//! | file | purpose |
//! | --- | --- |
//! | `memory`, `writer`, `protocol` | the maps, the writer, and the orders in which it carries steps out |
//! | `scenario`, `history`, `crashes` | tables one after the other, and the moments between them |
//! | `reader`, `questions` | a decision that can be stopped, and the calls that it decides |
//! | `state`, `explore`, `check` | all schedules, and whether each answer is right |
//! | `exhaustive` | vipnat's own order: each answer is right |
//! | `agent` | changes while an agent waits for a reclaim; agents that reclaim too early |
//! | `seam`, `broken` | other orders and broken readers: the model finds them |
//!
//! [`decide`]: vipnat_common::decide()
//! [`rebind`]: vipnat_common::rebind()
//! [`Range`]: vipnat_common::Range
//! [`MAX_LOOKUPS`]: vipnat_common::decide::MAX_LOOKUPS
//! [`Plan::steps`]: crate::plan::Plan::steps
//! [`Reclaim::steps`]: crate::plan::Reclaim::steps
//! [`execute`]: crate::plan::execute()

mod agent;
mod broken;
mod check;
mod crashes;
mod exhaustive;
mod explore;
mod history;
mod memory;
mod protocol;
mod questions;
mod reader;
mod run;
mod scenario;
mod seam;
mod state;
mod tables;
mod writer;
