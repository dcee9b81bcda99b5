//! A valid table, and helpers to read one.

use std::path::Path;

use crate::table::{Table, TableError};

/// A table that uses every key.
pub(super) const GOOD: &str = r#"
[services.postgres]
backends = ["247.221.80.48", "247.221.80.52"]

[services.redis]
backends = [{ ip = "247.221.80.70", port = 6380, weight = 2 }, "247.221.80.71"]

[services.empty]
backends = []
select = "random"
udp-pinning = "strict"
on-backend-removed = "drain"
drain-seconds = 300

[apps.shop]
cgroup = "shop.slice/shop"

[apps.shop.relationships.db]
service = "postgres"
endpoint = { scheme = "pgsql", port = 5432, path = "main" }

[apps.shop.relationships.cache]
service = "redis"
vip = "169.254.17.140"
port = 6379
protocol = "tcp"

[apps.blog]
cgroup = "/sys/fs/cgroup/blog/./a"

[[apps.blog.relationships.db]]
service = "postgres"

[[apps.blog.relationships.db]]
service = "postgres"
vip = "169.254.17.141"
instance-ips = false
"#;

/// Reads a table from text.
pub(super) fn parse(text: &str) -> Result<Table, TableError> {
    parse_bytes(text.as_bytes())
}

/// Reads a table from bytes that need not be text.
pub(super) fn parse_bytes(bytes: &[u8]) -> Result<Table, TableError> {
    Table::parse(bytes, "t", Path::new("/sys/fs/cgroup"))
}

/// The same table as JSON.
pub(super) fn value_to_json(value: &toml::Value) -> String {
    serde_json::to_string(value).unwrap()
}
