//! Plans carried out step by step with the steps of readers in between, in every order there is.
//!
//! The tests next door look with a whole decision between two whole writes. Here a decision is
//! stopped at each of its accesses, and within them, and meanwhile the writer does any number of steps,
//! each of which is what no reader can see half of. Both are the real ones: [`decide`] and [`rebind`]
//! over a model of the maps, and the plans of [`Plan::new`], one after the other, so that slots and
//! elements are used again as soon as they can be.
//!
//! By hand and not with loom, which runs each schedule: a reader beside two plans has some 10^15 of
//! them. But the writer does not depend on readers, and a reader knows nothing but what it was told; so
//! ten thousand states, each gone through once, are all of them.
//!
//! What is taken for granted:
//!
//! - Everybody sees the writes in their order. Of a slot that is written meanwhile, a reader gets any
//!   mixture of old and new words of four bytes, each read once. A [`Range`] is read in one piece.
//! - A lookup returns an element that was in the bucket at some time while it ran and has the key when
//!   the two are compared; what else is in it is read later. An element that is taken out is filled for
//!   its next use at once. All keys share one bucket, and if that changes, a lookup may miss what is
//!   there.
//! - At most [`MAX_LOOKUPS`] - 1 looks of one decision miss a VIP that is there, since nothing but that
//!   number keeps a decision from letting it pass. One of them may be a look between two limits.
//! - The end of a grace period comes after the end of each reader that began before it did.
//!
//! [`decide`]: vipnat_common::decide()
//! [`rebind`]: vipnat_common::rebind()
//! [`Range`]: vipnat_common::Range

mod check;
mod explore;
mod memory;
mod reader;
mod scenario;
mod scenarios;
mod state;
mod writer;
