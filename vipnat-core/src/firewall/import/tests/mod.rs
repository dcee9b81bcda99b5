//! Rules that are imported, rules that are refused, and text that is no rules.

mod conditions;
mod exported;
mod fixture;
mod shares;
