//! Standard output and standard error.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use vipnat_core::text::{shown, shown_lines};

use crate::kernel::worker::may_hang;

/// What is said when standard output takes no more.
pub(crate) const UNWRITABLE: &str = "cannot write to standard output";

/// Prints what people read to standard output, at once. Text from outside has to be [`shown`] in it.
pub(crate) fn print(text: &str) -> Result<()> {
    print_data(&shown_lines(text))
}

/// Prints what programs read, as it is.
pub(crate) fn print_data(text: &str) -> Result<()> {
    let write = || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    };
    let reader = || "a reader of standard output".to_owned();
    may_hang(reader, write).context(UNWRITABLE)
}

/// Prints to standard error; if that cannot be, there is nobody to tell. Text from outside has to be
/// [`shown`] in it.
pub(crate) fn complain(text: &str) {
    let reader = || "a reader of standard error".to_owned();
    let _ = may_hang(reader, || writeln!(io::stderr(), "vipnat: {}", shown_lines(text)));
}

/// The same for a sentence, whatever is in it.
pub(crate) fn warn(text: &str) {
    complain(&shown(text));
}
