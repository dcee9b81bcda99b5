//! Names of apps, services and relationships.

use crate::text::{is_printable, quoted};

/// The longest name, in bytes. App names become file names on bpffs, where one byte can take three.
pub(crate) const MAX_NAME: usize = 63;

/// Checks the name of an app, service or relationship.
///
/// # Errors
///
/// The reason why it can be no name.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        Err("an empty name".to_owned())
    } else if name.len() > MAX_NAME {
        Err(format!("a name of {} bytes", name.len()))
    } else if name.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Err(format!("white space or a control character in the name {}", quoted(name)))
    } else if !is_printable(name) {
        Err(format!("a character that is not seen in the name {}", quoted(name)))
    } else {
        Ok(())
    }
}
