//! Standard output and standard error.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use vipnat_core::text::{shown, shown_lines};

use crate::kernel::worker::may_hang;

/// The error when standard output cannot be written.
pub(crate) const UNWRITABLE: &str = "cannot write to standard output";

/// Prints lines for people to standard output, at once. Text from outside must be [`shown`] in them.
pub(crate) fn print(text: &str) -> Result<()> {
    print_data(&shown_lines(text))
}

/// Prints text for programs to standard output, unchanged.
pub(crate) fn print_data(text: &str) -> Result<()> {
    let write = || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    };
    let reader = || "a reader of standard output".to_owned();
    may_hang(reader, write).context(UNWRITABLE)
}

/// Makes one line of output. It escapes the text, since other users name cgroups.
pub(crate) fn line(text: &str) -> String {
    format!("{}\n", shown(text))
}

/// Prints one sentence to standard error, and escapes it.
pub(crate) fn warn(text: &str) {
    warn_escaped(&shown(text));
}

/// Prints lines to standard error that are escaped already: text from outside must be [`shown`] in them.
/// A failure to print is ignored, since no other place is left to report it.
pub(crate) fn warn_escaped(text: &str) {
    let reader = || "a reader of standard error".to_owned();
    let _ = may_hang(reader, || writeln!(io::stderr(), "vipnat: {}", shown_lines(text)));
}
