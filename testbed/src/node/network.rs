//! The node's network: a loopback and one address that everything of the cluster listens on. No packet leaves it.

use std::path::Path;
use std::process::Command;

use super::ADDRESS;
use crate::files;

/// A pair of links whose ends both stay here: many kernels have no dummy link. The default route is needed for
/// addresses to count as reachable; nothing answers behind it.
fn commands() -> String {
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
    subprocess::run_with_input(Command::new("ip").args(["-batch", "-"]), &commands())?;
    let forwarding = Path::new("/proc/sys/net/ipv4/ip_forward");
    std::fs::write(forwarding, "1").map_err(files::naming(forwarding))
}
