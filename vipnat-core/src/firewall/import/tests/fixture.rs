//! Helpers to import rules.

use crate::firewall::import::{Import, import};

/// Imports rules of the nat table, given without `-A`.
pub(super) fn nat(rules: &[&str]) -> Import {
    let rules: String = rules.iter().map(|rule| format!("-A {rule}\n")).collect();
    import(&format!("*nat\n:OUTPUT ACCEPT [0:0]\n{rules}COMMIT\n"))
}
