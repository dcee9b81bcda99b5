//! Tests of rules that are imported, of rules that are refused, and of text that is not rules.

mod conditions;
mod exported;
mod fixture;
mod shares;
