//! The stage "structure": holds the rules of the house over every source file and document.
//!
//! [`house`] is the table of layers and exceptions. [`tree`] reads the files. [`parsed`] parses one,
//! [`modules`] connects them, and [`layers`], [`circles`], [`files`] and [`documents`] judge.

mod check;
mod circles;
mod documents;
mod files;
mod house;
mod layers;
mod modules;
mod parsed;
mod resolve;
#[cfg(test)]
mod tests;
mod tree;
mod violation;

pub(super) use self::check::check_tree;
