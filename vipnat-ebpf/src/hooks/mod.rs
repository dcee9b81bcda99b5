//! One module for each kind of hook: ask for the verdict, apply it, and record it in the socket.

pub(crate) mod connect;
pub(crate) mod getpeername;
pub(crate) mod recvmsg;
pub(crate) mod sendmsg;
