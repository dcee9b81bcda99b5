//! The modes that are compared.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A way from a client to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// Direct connects, with no program on any cgroup of the machine.
    #[value(skip)]
    Untouched,
    /// Direct connects, while other cgroups have programs.
    Direct,
    /// A program of two instructions on each hook.
    Empty,
    /// VIPs behind vipnat.
    Vipnat,
    /// The same behind another build of vipnat.
    #[value(skip)]
    Before,
    /// A rule for each VIP, loaded by iptables-legacy.
    IptablesLegacy,
    /// The same rules, loaded by iptables-nft.
    IptablesNft,
    /// One rule of nft with a map.
    NftMap,
    /// Connection tracking, and no translation.
    Conntrack,
    /// VIPs behind vipnat, beside `vipnat export iptables --beside-vipnat`, loaded by iptables-legacy.
    #[value(skip)]
    BesideLegacy,
    /// The same, loaded by iptables-nft.
    #[value(skip)]
    BesideIptablesNft,
    /// VIPs behind vipnat, beside `vipnat export nft --beside-vipnat`.
    #[value(skip)]
    BesideNft,
}

impl Mode {
    /// All modes, in the order of the tables.
    pub(crate) const ALL: [Self; 12] = [
        Self::Untouched,
        Self::Direct,
        Self::Empty,
        Self::Before,
        Self::Vipnat,
        Self::IptablesLegacy,
        Self::IptablesNft,
        Self::NftMap,
        Self::Conntrack,
        Self::BesideLegacy,
        Self::BesideIptablesNft,
        Self::BesideNft,
    ];

    /// The modes with rules beside vipnat.
    pub(crate) const BESIDE: [Self; 3] =
        [Self::BesideLegacy, Self::BesideIptablesNft, Self::BesideNft];

    /// Whether clients connect to VIPs.
    pub(crate) fn translates(self) -> bool {
        !matches!(self, Self::Untouched | Self::Direct | Self::Empty | Self::Conntrack)
    }

    /// Whether the kernel tracks connections.
    pub(crate) fn tracks(self) -> bool {
        self.has_rules() && !Self::BESIDE.contains(&self)
    }

    /// Whether the host has rules.
    pub(crate) fn has_rules(self) -> bool {
        !matches!(self, Self::Untouched | Self::Direct | Self::Empty | Self::Vipnat | Self::Before)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Untouched => "no programs at all",
            Self::Direct => "direct",
            Self::Empty => "empty programs",
            Self::Vipnat => "vipnat",
            Self::Before => "vipnat before",
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::NftMap => "nft map",
            Self::Conntrack => "conntrack alone",
            Self::BesideLegacy => "vipnat and iptables-legacy",
            Self::BesideIptablesNft => "vipnat and iptables-nft",
            Self::BesideNft => "vipnat and nft",
        })
    }
}
