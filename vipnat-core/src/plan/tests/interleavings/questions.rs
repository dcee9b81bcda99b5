//! The questions that readers ask.

use vipnat_common::{AppId, Destination, Protocol as Ip, SlotFlags, Target};

use super::reader::Question;
use crate::plan::tests::tables::VIPS;

pub(super) fn connect(app: u32) -> Question {
    let ip = VIPS[0].octets();
    Question::Decide(Destination {
        app: AppId(app),
        ip,
        port: 80,
        protocol: Ip::Tcp,
        connect: true,
    })
}

pub(super) fn datagram(app: u32) -> Destination {
    Destination {
        app: AppId(app),
        ip: VIPS[0].octets(),
        port: 80,
        protocol: Ip::Udp,
        connect: false,
    }
}

/// The targets that flows of the first two apps may have kept: each backend with each slot.
pub(super) fn flows() -> impl Iterator<Item = (u32, Target)> {
    let had = |app, last, slot| Target {
        ip: [240, app as u8, VIPS[0].octets()[3], last],
        slot,
        port: 80,
        flags: SlotFlags::empty(),
    };
    let backends = (1..=2).flat_map(|app| (1..=2).map(move |last| (app, last)));
    backends.flat_map(move |(app, last)| (0..3).map(move |slot| (app, had(app, last, slot))))
}
