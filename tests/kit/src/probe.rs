//! What the program `probe` prints: one JSON object a line.

use serde::{Deserialize, Serialize};

/// What a client saw of one connection, up to the first call that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Nothing failed.
    pub ok: bool,
    /// The call that failed, by the name of its man page, or `SO_ERROR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Its error number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// The name of that number, `ECONNREFUSED`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_name: Option<String>,
    /// The first line the server sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub banner: Option<String>,
    /// What getpeername(2) said right after connecting, `1.2.3.4:5` or `[::ffff:1.2.3.4]:5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What getsockname(2) said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// `probe accept` only: the address that accept(2) filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
    /// `probe nonblocking` only: what each connect(2) said, `OK` or the name of the error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<String>,
}

impl Report {
    /// Reads a line of the probe.
    pub fn parse(line: &str) -> Self {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the report {line}"))
    }

    /// The name of the error, or `""`.
    pub fn error(&self) -> &str {
        self.error_name.as_deref().unwrap_or_default()
    }

    /// The banner, or `""`.
    pub fn banner(&self) -> &str {
        self.banner.as_deref().unwrap_or_default()
    }

    /// The peer, or `""`.
    pub fn peer(&self) -> &str {
        self.peer.as_deref().unwrap_or_default()
    }
}

/// The first line of `probe accept`: it can be connected to now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listening {
    /// The address and port.
    pub listening: String,
}
