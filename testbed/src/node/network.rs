//! The network of the node's network namespace: the loopback interface and one address for all components. It is not
//! connected to the machine's network.

use std::path::Path;
use std::process::Command;

use super::ADDRESS;
use crate::files;

/// Commands for `ip -batch`. A veth pair with both ends in this namespace replaces a dummy link, which many kernels lack.
/// Without a route the kernel rejects packets to service addresses before kube-proxy's rules see them, so there is a
/// default route; no host is behind it.
fn ip_commands() -> String {
    format!(
        "link set lo up\n\
         link add node0 type veth peer name node1\n\
         link set node0 up\n\
         link set node1 up\n\
         address add {ADDRESS}/24 dev node0\n\
         route add default dev node0\n"
    )
}

pub(super) fn set_up() -> Result<(), String> {
    subprocess::run_with_input(Command::new("ip").args(["-batch", "-"]), &ip_commands())?;
    let forwarding = Path::new("/proc/sys/net/ipv4/ip_forward");
    std::fs::write(forwarding, "1").map_err(files::with_path(forwarding))
}
