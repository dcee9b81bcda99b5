//! An agent keeps its maps in memory, and writes what changes.
//!
//! | file | purpose |
//! | --- | --- |
//! | `agent` | the agent: it follows its own writes, and falls back to a whole apply |
//! | `foreign` | writes of another program |
//! | `plans` | plans for some VIPs are those for the whole table |
//! | `sequences` | any sequence of changes, reclaims, failures and foreign writes |
//! | `each_write` | each write of the agent fails once |

mod agent;
mod each_write;
mod foreign;
mod plans;
mod sequences;
