//! Draws the results as plots.
//!
//! `pictures` chooses the plots and their lines. `panel` draws one, with the values of `axis` and the names of
//! `names`.

mod axis;
mod names;
mod panel;
mod pictures;

pub(super) use self::pictures::draw;
