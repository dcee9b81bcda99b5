//! The privileges that each command needs, and attacks of a container's root.

mod intruder;
mod privileges;
