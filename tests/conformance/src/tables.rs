//! Tables of the container's app, and the backends in them.

use std::net::Ipv4Addr;

/// The address of the backend with this number. Servers B1 to B4 are at 1 to 4, with TCP and UDP on ports
/// 5432 and 6380. Number 8 refuses, and number 9 does not exist.
pub fn backend(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(247, 221, 81, number)
}

/// A table in which `db` is a service with these backends.
pub fn db(backends: &[u8]) -> String {
    db_with(backends, "", "")
}

/// The same, with more lines for the service and for the relationship.
pub fn db_with(backends: &[u8], service: &str, relationship: &str) -> String {
    let backends: Vec<_> = backends.iter().map(|&number| backend(number).to_string()).collect();
    db_of(&format!("{backends:?}"), service, relationship)
}

/// The same, with a TOML list of backends.
pub(crate) fn db_of(backends: &str, service: &str, relationship: &str) -> String {
    format!(
        "[services.db]\nbackends = {backends}\n{service}\n\
         [apps.app.relationships.db]\nservice = \"db\"\n{relationship}\n"
    )
}

/// Backend 1, on another port than the one asked for.
pub(crate) const OTHER_PORT: &str = "[{ ip = \"247.221.81.1\", port = 6380 }]";

/// A service to add to a table: the only backend of `cache` is backend 2.
pub(crate) const CACHE: &str = "[services.cache]\nbackends = [\"247.221.81.2\"]\n\
                                [apps.app.relationships.cache]\nservice = \"cache\"\n";

/// A table in which `db` has backend 1, and `cache` has backend 2.
pub(crate) fn two_services() -> String {
    db(&[1]) + CACHE
}

/// The same, with 127.0.0.1 in place of backend 1.
pub(crate) fn loopback_and_cache() -> String {
    db_of("[\"127.0.0.1\"]", "", "") + CACHE
}

/// A table in which `db` and `cache` are two VIPs of one service with these backends.
pub(crate) fn two_vips(backends: &[u8]) -> String {
    db(backends) + "[apps.app.relationships.cache]\nservice = \"db\"\n"
}
