//! Steps carried out with the accesses of readers in between, in every order there is.
//!
//! The tests next door look with a whole decision between two whole writes. Here the model stops a
//! decision at each of its accesses, and within them. Meanwhile the writer takes any number of steps, each
//! so small that no reader can see half of it. Both sides are the real ones. Readers run [`decide`] and
//! [`rebind`] over a model of the maps. The writer runs [`Plan::steps`] and [`Reclaim::steps`] through
//! [`execute`], one change after the other, so that slots and elements are used again as soon as they can
//! be.
//!
//! loom would run each schedule, and a reader beside two plans has some 10^15 of them. But the writer does
//! not depend on readers, and a reader knows only the values it was told. So ten thousand states, each
//! visited once, stand for all schedules.
//!
//! The model assumes:
//!
//! - All CPUs see the writes in their order. Of a slot that is written meanwhile, a reader gets any
//!   mixture of old and new words of four bytes, each read once. A [`Range`] is read in one piece.
//! - A lookup returns an element that was in the bucket at some time while it ran and has the key when
//!   the two are compared; the reader reads its value later. An element that is taken out is filled for
//!   its next use at once. All keys share one bucket, and if that changes, a lookup may miss an entry
//!   that is there.
//! - At most [`MAX_LOOKUPS`] - 1 looks of one decision miss a VIP that is there: only that number keeps a
//!   decision from letting it pass. One of them may be a look between two limits.
//! - The end of a grace period comes after the end of each reader that began before it did.
//!
//! | file | purpose |
//! | --- | --- |
//! | `memory`, `writer`, `protocol` | the maps, the writer, and the orders in which it carries steps out |
//! | `scenario`, `history`, `crashes` | tables one after the other, and the moments between them |
//! | `reader`, `questions` | a decision that can be stopped, and what is decided |
//! | `state`, `explore`, `check` | all schedules, and whether each answer is right |
//! | `exhaustive` | vipnat's own order: each answer is right |
//! | `seam`, `broken` | other orders and broken readers: the model finds them |
//!
//! [`decide`]: vipnat_common::decide()
//! [`rebind`]: vipnat_common::rebind()
//! [`Range`]: vipnat_common::Range
//! [`MAX_LOOKUPS`]: vipnat_common::decide::MAX_LOOKUPS
//! [`Plan::steps`]: crate::plan::Plan::steps
//! [`Reclaim::steps`]: crate::plan::Reclaim::steps
//! [`execute`]: crate::plan::execute()

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
