//! The output of `vipnat run`, which the command line implements.

use crate::reconcile::{Applied, Connections};

/// Reports in the words of the command line. A failure to print is ignored.
pub(crate) trait Report: Send {
    /// Reports that the table of this source is followed from now on.
    fn following(&self, source: &str);
    /// Reports what an apply did.
    fn applied(&self, applied: &Applied);
    /// Reports connections that were ended, since their time to drain is over.
    fn ended(&self, ended: &[Connections]);
    /// Reports one sentence, and escapes it.
    fn warning(&self, text: &str);
    /// Reports a problem in one or more lines, which are escaped already.
    fn problem(&self, text: &str);
}
