//! The tables that follow each other in the scenarios.

use vipnat_common::Protocol as Ip;

use super::scenario::Scenario;
use crate::{
    model::Mapping,
    plan::tests::tables::{VIPS, mapping},
};

/// A mapping for any port and protocol.
pub(super) fn any(app: u32, backends: &[u8]) -> Mapping {
    limited(app, 0, Ip::Any, backends)
}

/// A mapping for one port and protocol. All apps have the same VIP, and no two share a backend.
pub(super) fn limited(app: u32, port: u16, protocol: Ip, backends: &[u8]) -> Mapping {
    mapping(app, VIPS[0], port, protocol, backends)
}

pub(super) fn scenarios() -> Vec<Scenario> {
    let tcp = |backends| limited(1, 80, Ip::Tcp, backends);
    let both = |backends| limited(1, 80, Ip::Any, backends);
    vec![
        Scenario::new(
            "other backends",
            [
                vec![any(1, &[1, 2]), any(2, &[1])],
                vec![any(1, &[3]), any(2, &[2])],
                vec![any(1, &[1, 2]), any(2, &[1, 3])],
                vec![any(1, &[4, 2]), any(2, &[1])],
            ],
        ),
        Scenario::new(
            "three apps",
            [
                vec![any(3, &[1]), any(1, &[1]), any(2, &[1])],
                vec![any(3, &[2]), any(1, &[2]), any(2, &[2])],
                vec![any(3, &[1]), any(1, &[3]), any(2, &[1])],
            ],
        ),
        Scenario::new(
            "one goes, another comes",
            [
                vec![any(1, &[1, 2])],
                vec![any(2, &[1, 2])],
                vec![any(1, &[3, 4])],
                vec![any(2, &[3]), any(1, &[3, 4])],
            ],
        ),
        Scenario::new(
            "no backend",
            [
                vec![any(1, &[1]), any(2, &[1])],
                vec![any(1, &[]), any(2, &[1, 2])],
                vec![any(1, &[2]), any(2, &[])],
            ],
        ),
        Scenario::new(
            "limits come and go",
            [
                vec![any(1, &[1]), any(2, &[1])],
                vec![tcp(&[2, 3])],
                vec![both(&[4]), any(2, &[2])],
                vec![any(1, &[1, 2]), any(2, &[2])],
            ],
        ),
        Scenario::new(
            "other limits",
            [
                vec![both(&[1]), any(2, &[1])],
                vec![tcp(&[1]), any(2, &[2])],
                vec![limited(1, 0, Ip::Tcp, &[2]), any(2, &[2])],
                vec![both(&[1]), any(2, &[1])],
            ],
        ),
    ]
}
