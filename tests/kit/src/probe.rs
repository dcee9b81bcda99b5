//! The output of the program `probe`: one JSON object a line.

use serde::{Deserialize, Serialize};

/// The results of one connection, up to the first call that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Whether all calls succeeded.
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
    /// The first line that the server sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub banner: Option<String>,
    /// The result of getpeername(2) right after connecting: `1.2.3.4:5` or `[::ffff:1.2.3.4]:5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The result of getsockname(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// `probe accept` only: the address that accept(2) filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
    /// `probe nonblocking` only: the result of each connect(2), `OK` or the name of the error.
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

/// The first line of `probe accept`: clients can connect from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listening {
    /// The address and port.
    pub listening: String,
}
