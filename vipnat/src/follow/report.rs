//! How `vipnat run` tells people what happens.

use std::path::Path;

use crate::reconcile::{Applied, Connections};

/// Says what happens, in the words of the command line. Nothing fails if nobody reads it.
pub(crate) trait Report: Send {
    /// The table in this file is followed from now on.
    fn following(&self, file: &Path);
    /// What an apply did.
    fn applied(&self, applied: &Applied);
    /// Connections that were ended because they had drained long enough.
    fn ended(&self, ended: &[Connections]);
    /// What people should know.
    fn warning(&self, text: &str);
    /// What is wrong; it may be several lines, which are safe to print.
    fn problem(&self, text: &str);
}
