//! Which privileges each command needs, and what a container's root can't do.

mod intruder;
mod privileges;
