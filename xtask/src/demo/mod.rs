//! The demonstration: psql keeps working through one address while PostgreSQL moves.

mod scenes;
mod story;

pub(crate) use self::scenes::run;
