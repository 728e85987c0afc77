//! Breaks things on purpose, from a test that runs inside the cluster: parts of Kubernetes and ways between addresses.
//! Whoever breaks something mends it; nothing here waits for the cluster to notice.

use std::fs::{self, File, OpenOptions};
use std::net::Ipv4Addr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::files;
use crate::folder::Folder;
use crate::node::parts::NAMES;

/// How long a part may take to end by itself once it was asked to.
const PATIENCE_TO_STOP: Duration = Duration::from_secs(2);
/// How long the supervisor may take to start a part, and the kernel to end one.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// A part of the node: `etcd`, `kube-apiserver`, `kubelet`, `containerd` and so on.
#[derive(Clone, Debug)]
pub struct Part {
    folder: Folder,
    name: &'static str,
}

/// A claim on the cluster that ends with this value.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

/// Waits until no test of any process has the cluster to itself. For every test that would suffer from such a one.
pub fn among_others() -> Result<Claim, String> {
    claim(FlockOperation::LockShared)
}

/// Waits until no other test claims the cluster, and keeps them waiting. For tests that break what all share.
pub fn alone() -> Result<Claim, String> {
    claim(FlockOperation::LockExclusive)
}

/// From now on no packet reaches this address or comes from it, as when a cable is pulled: nobody is told. The
/// kubelet's probes, which come from the node, are cut off too.
pub fn cut(pod: Ipv4Addr) -> Result<(), String> {
    nft(&format!("{}add element inet {TABLE} cut {{ {pod} }}\n", tables()))
}

/// Mends what `cut` did.
pub fn restore(pod: Ipv4Addr) -> Result<(), String> {
    nft(&format!("delete element inet {TABLE} cut {{ {pod} }}\n"))
}

/// Cuts the way between two pods and leaves all others, the kubelet's included.
pub fn cut_between(one: Ipv4Addr, other: Ipv4Addr) -> Result<(), String> {
    nft(&format!("{}add element inet {TABLE} apart {}\n", tables(), both_ways(one, other)))
}

/// Mends what `cut_between` did.
pub fn restore_between(one: Ipv4Addr, other: Ipv4Addr) -> Result<(), String> {
    nft(&format!("delete element inet {TABLE} apart {}\n", both_ways(one, other)))
}

/// Holds every packet to this pod back for so long. Needs the kernel's netem; zero ends it.
pub fn delay(pod: Ipv4Addr, by: Duration) -> Result<(), String> {
    let route = subprocess::capture(Command::new("ip").args(["route", "get", &pod.to_string()]))?;
    let mut words = route.split_whitespace().skip_while(|&word| word != "dev");
    let link = words.nth(1).ok_or_else(|| format!("no link leads to {pod}: {route}"))?;
    if by.is_zero() {
        return subprocess::capture(Command::new("tc").args(["qdisc", "del", "dev", link, "root"]))
            .map(drop);
    }
    let delay = format!("{}us", by.as_micros());
    let mut tc = Command::new("tc");
    tc.args(["qdisc", "replace", "dev", link, "root", "netem", "delay", &delay]);
    match subprocess::capture(&mut tc) {
        Err(error) if error.contains("kind is unknown") => {
            Err("this kernel has no netem (CONFIG_NET_SCH_NETEM), so nothing can be delayed"
                .to_owned())
        }
        result => result.map(drop),
    }
}

// === impl Part ===

impl Part {
    /// The part of the cluster around this process.
    pub fn named(name: &str) -> Result<Part, String> {
        let known = NAMES.into_iter().find(|&known| known == name);
        let name = known.ok_or_else(|| format!("`{name}` is none of {}", NAMES.join(", ")))?;
        Ok(Part { folder: Folder::around_us()?, name })
    }

    /// Its process at the moment, as numbered inside.
    pub fn id(&self) -> Option<u32> {
        fs::read_to_string(self.file("pid")).ok()?.trim().parse().ok()
    }

    /// Ends it at once, as a crash does. The node starts it again a fifth of a second later.
    pub fn kill(&self) -> Result<(), String> {
        let id = self.running()?;
        self.signal(id, Signal::KILL)?;
        self.until("end", PATIENCE, || !is_alive(id))
    }

    /// Ends it and keeps it down.
    pub fn stop(&self) -> Result<(), String> {
        files::write(&self.file("down"), "")?;
        let Some(id) = self.process() else { return Ok(()) };
        self.signal(id, Signal::TERM)?;
        if self.until("end", PATIENCE_TO_STOP, || !is_alive(id)).is_err() {
            self.signal(id, Signal::KILL)?;
        }
        self.until("end", PATIENCE, || !is_alive(id))
    }

    /// Has it started again; whether it is of use yet is another question.
    pub fn start(&self) -> Result<(), String> {
        if self.file("down").exists() {
            fs::remove_file(self.file("down")).map_err(files::naming(&self.file("down")))?;
        }
        self.until("start", PATIENCE, || self.process().is_some())
    }

    /// Stops it in its tracks: its connections stay open and nothing answers.
    pub fn pause(&self) -> Result<(), String> {
        self.signal(self.running()?, Signal::STOP)
    }

    pub fn resume(&self) -> Result<(), String> {
        self.signal(self.running()?, Signal::CONT)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.part(self.name).join(name)
    }

    fn process(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.id()?).ok()?)
    }

    fn running(&self) -> Result<Pid, String> {
        self.process().ok_or_else(|| format!("{} does not run", self.name))
    }

    fn signal(&self, id: Pid, signal: Signal) -> Result<(), String> {
        kill_process(id, signal).map_err(|error| format!("{signal:?} to {}: {error}", self.name))
    }

    fn until(
        &self,
        what: &str,
        patience: Duration,
        holds: impl Fn() -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        while !holds() {
            if Instant::now() > deadline {
                return Err(format!("{} does not {what}", self.name));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// Until the supervisor has buried it, a dead process still counts as alive; that takes it a few milliseconds.
fn is_alive(id: Pid) -> bool {
    test_kill_process(id).is_ok()
}

fn claim(how: FlockOperation) -> Result<Claim, String> {
    let path = Folder::around_us()?.path().join("claims");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let lock = open.map_err(files::naming(&path))?;
    flock(&lock, how).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Claim { _lock: lock })
}

const TABLE: &str = "agimo-faults";

/// The table that drops what is cut off; made anew with each cut, which leaves what is in its sets. The hooks come after
/// kube-proxy's translation of service addresses, so that a pod is cut off by every name.
fn tables() -> String {
    let mut text = format!(
        "add table inet {TABLE}\n\
         add set inet {TABLE} cut {{ type ipv4_addr; }}\n\
         add set inet {TABLE} apart {{ type ipv4_addr . ipv4_addr; }}\n"
    );
    for hook in ["input", "forward", "output"] {
        text.push_str(&format!(
            "add chain inet {TABLE} {hook} {{ type filter hook {hook} priority 0; }}\n\
             flush chain inet {TABLE} {hook}\n\
             add rule inet {TABLE} {hook} ip saddr @cut drop\n\
             add rule inet {TABLE} {hook} ip daddr @cut drop\n\
             add rule inet {TABLE} {hook} ip saddr . ip daddr @apart drop\n"
        ));
    }
    text
}

fn both_ways(one: Ipv4Addr, other: Ipv4Addr) -> String {
    format!("{{ {one} . {other}, {other} . {one} }}")
}

fn nft(commands: &str) -> Result<(), String> {
    subprocess::run_with_input(Command::new("nft").args(["-f", "-"]), commands)
}
