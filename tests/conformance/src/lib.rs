//! The comparison with iptables. Each [`Case`] runs in identical containers behind iptables-legacy,
//! iptables-nft, nft and vipnat. Applications must observe the same behind each, or exactly the known
//! difference of the case.

mod case;
pub mod cases;
mod container;
mod gate;
mod record;
mod report;
mod run;
mod session;
mod tables;
mod translator;

pub use case::{Case, Known, Run, Table};
pub use container::{APP, Container, DB};
pub use record::{Difference, Record};
pub use report::{document, write_document};
pub use run::{Verdict, run};
pub use session::Session;
pub use tables::{backend, db, db_with};
pub use translator::Translator;
