//! The descendants of a process, and the addresses on which they listen: read from procfs (proc(5)).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of a listening socket in /proc/net/tcp (include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// All running descendants of a process. Zombies are none: they have ended.
pub fn descendants(ancestor: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let names =
        fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    for pid in names.filter_map(|name| name.to_str()?.parse::<u32>().ok()) {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if let Some(parent) = running_parent(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![ancestor];
    while let Some(pid) = next.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(child);
            next.push(child);
        }
    }
    found
}

/// The TCP addresses on which any of these processes listens.
pub fn listening_addresses(pids: &[u32]) -> BTreeSet<SocketAddr> {
    let sockets: HashSet<String> = pids.iter().flat_map(|pid| socket_inodes(*pid)).collect();
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table, &sockets))
        .collect()
}

/// The parent in a line of /proc/PID/stat, unless the process is a zombie.
fn running_parent(stat: &str) -> Option<u32> {
    // The name of the program, in parentheses, may contain spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let state = words.next()?;
    let parent = words.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

fn socket_inodes(pid: u32) -> Vec<String> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            let target = fs::read_link(file.path()).ok()?;
            Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect()
}

/// The addresses of listening sockets with these inodes.
fn listening(table: &str, inodes: &HashSet<String>) -> Vec<SocketAddr> {
    let lines = table.lines().skip(1);
    lines
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            let (address, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
            (*state == LISTEN && inodes.contains(*inode)).then(|| socket_address(address))?
        })
        .collect()
}

/// An address such as `0100007F:1F90`: words of four bytes in the order of this machine, and the port.
fn socket_address(written: &str) -> Option<SocketAddr> {
    let (address, port) = written.split_once(':')?;
    let words: Vec<u32> = (0..address.len() / 8)
        .map(|at| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok())
        .collect::<Option<_>>()?;
    let address = match words.as_slice() {
        [word] => IpAddr::V4(Ipv4Addr::from(word.to_ne_bytes())),
        [_, _, _, _] => {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_parent_follows_the_name_whatever_it_contains() {
        assert_eq!(running_parent("12 (a) b) c) S 7 12 12 0"), Some(7));
        assert_eq!(running_parent("12 (a) Z 7 12 12 0"), None);
        assert_eq!(running_parent("12 (a"), None);
    }

    #[test]
    fn the_listening_addresses_of_a_process_are_found() {
        let listeners =
            [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("[::1]:0").unwrap()];
        let found = listening_addresses(&[std::process::id()]);
        for listener in &listeners {
            assert!(found.contains(&listener.local_addr().unwrap()), "{found:?}");
        }
    }

    #[test]
    fn a_child_and_its_children_are_descendants_until_they_end() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 1000 & echo started; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 8];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut line).unwrap();
        let found = descendants(shell.id());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(descendants(std::process::id()).contains(&found[0]));
        let pid = rustix::process::Pid::from_raw(found[0] as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert!(descendants(shell.id()).is_empty());
    }
}
