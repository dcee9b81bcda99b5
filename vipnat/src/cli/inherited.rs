//! An argument of each verb that attaches programs to cgroups.

use crate::reconcile::Session;

/// How a verb treats a program of another tool on a cgroup above.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Inherited {
    /// Attach even if that switches off a program of another tool. The cgroup inherits that program
    /// from a cgroup above it, where it is attached with BPF_F_ALLOW_OVERRIDE. Without this option,
    /// vipnat refuses such an app.
    #[arg(long)]
    override_inherited: bool,
}

impl Inherited {
    /// Sets this choice for all that the session attaches.
    pub(crate) fn apply_to(self, session: Session) -> Session {
        session.override_inherited(self.override_inherited)
    }
}
