//! Hosts that can reach each other.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
};

use crate::netns::NetNs;

/// A switch with a cable to each host.
///
/// All of 240.0.0.0/4 is on the link, and there is no other route. So traffic to any other address fails at
/// once, inside. Hosts live as long as the network.
#[derive(Debug)]
pub struct Network {
    /// A host with a bridge, and without addresses.
    switch: NetNs,
    /// Handles of all hosts. Without one, a host would end with its last socket, and lose its address.
    hosts: Mutex<Vec<NetNs>>,
}

impl Network {
    /// Makes a network without hosts.
    #[expect(clippy::new_without_default, reason = "makes kernel objects")]
    pub fn new() -> Self {
        let switch = NetNs::new();
        switch.ip("link add name switch type bridge stp_state 0 forward_delay 0\n\
                   link set dev switch up");
        Self { switch, hosts: Mutex::default() }
    }

    /// Makes a host with `address` on its interface `eth0`. The address must be in 240.0.0.0/4.
    pub fn host(&self, address: Ipv4Addr) -> NetNs {
        let host = NetNs::new();
        self.connect(&host, address);
        host
    }

    /// Connects an existing namespace as such a host.
    pub(crate) fn connect(&self, host: &NetNs, address: Ipv4Addr) {
        assert!(address.octets()[0] >= 240, "{address} is not in 240.0.0.0/4");
        let port = self.plug(host);
        let there = host.path().display().to_string();
        self.switch.ip(&format!(
            "link add name port{port} type veth peer name eth0 netns {there}\n\
             link set dev port{port} master switch up"
        ));
        host.ip(&format!(
            "address add {address}/32 dev eth0\n\
             link set dev eth0 up\n\
             route add 240.0.0.0/4 dev eth0 src {address}"
        ));
    }

    /// Keeps a handle of the host. Gives the number of its port.
    fn plug(&self, host: &NetNs) -> usize {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.push(host.clone());
        hosts.len() - 1
    }
}
