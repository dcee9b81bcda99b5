//! Writes `PLATFORM_RELATIONSHIPS`, the variable from which applications read their endpoints.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use crate::table::model::{App, Relationship, Table};

impl Table {
    /// The endpoints of an app as JSON: an object with a list of endpoints for each relationship.
    ///
    /// Each endpoint has `ip`, the VIP, and the free-form values of the table. It also has `instance_ips`,
    /// the backends, unless the relationship turns them off.
    pub fn relationships(&self, app: &App) -> Value {
        let App { cgroup: _, relationships } = app;
        let endpoint = |relationship: &Relationship| {
            let mut endpoint = Map::new();
            endpoint.insert("ip".to_owned(), json!(relationship.vip));
            if relationship.instance_ips {
                let instances: Vec<_> = self.backends(relationship).iter().map(|b| b.ip).collect();
                endpoint.insert("instance_ips".to_owned(), json!(instances));
            }
            endpoint.extend((*relationship.endpoint).clone());
            Value::Object(endpoint)
        };
        let endpoints = relationships
            .groups()
            .map(|(name, endpoints)| (name.to_owned(), endpoints.map(endpoint).collect()));
        Value::Object(endpoints.collect())
    }

    /// The value of the environment variable: [`Table::relationships`] as base64.
    pub fn platform_relationships(&self, app: &App) -> String {
        BASE64_STANDARD.encode(self.relationships(app).to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn endpoints_carry_the_vip_and_the_backends() {
        let text = r#"
            [services.postgres]
            backends = ["247.221.80.48", { ip = "247.221.80.52", port = 5433 }]
            [apps.shop]
            cgroup = "shop"
            [apps.shop.relationships.db]
            service = "postgres"
            endpoint = { scheme = "pgsql", port = 5432, query = { is_master = true } }
        "#;
        let table = Table::parse(text.as_bytes(), "table", Path::new("/sys/fs/cgroup")).unwrap();
        let value = table.platform_relationships(&table.apps["shop"]);
        let json: Value = serde_json::from_slice(&BASE64_STANDARD.decode(value).unwrap()).unwrap();
        let expected = json!({ "db": [{
            "ip": "169.254.37.209",
            "instance_ips": ["247.221.80.48", "247.221.80.52"],
            "scheme": "pgsql",
            "port": 5432,
            "query": { "is_master": true },
        }]});
        assert_eq!(json, expected);
    }
}
