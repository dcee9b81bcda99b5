//! Tables that are accepted and tables that are refused.

mod accepted;
mod damaged;
mod fixture;
mod json;
mod readers;
mod refused;
mod secrets;
mod several;
