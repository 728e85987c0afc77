//! Injects faults from a test that runs inside the cluster: stops components of Kubernetes, drops and delays packets. The
//! caller ends each fault; no function here waits until Kubernetes has noticed it.

use std::fs::{self, File, OpenOptions};
use std::net::Ipv4Addr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::cluster_folder::ClusterFolder;
use crate::files;
use crate::node::components::COMPONENT_NAMES;

/// How long a component has to end after SIGTERM before it gets SIGKILL.
const GRACEFUL_STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the supervisor may take to start a component, and the kernel to end one.
const TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A component of the node: `etcd`, `kube-apiserver`, `kubelet`, `containerd` and so on.
#[derive(Clone, Debug)]
pub struct Component {
    folder: ClusterFolder,
    name: &'static str,
}

/// A lock on the cluster among tests of all processes, released when this value is dropped.
#[derive(Debug)]
pub struct ClusterLock {
    _file: File,
}

/// Waits until no test holds the exclusive lock. For tests that need an undisturbed cluster.
pub fn lock_shared() -> Result<ClusterLock, String> {
    lock(FlockOperation::LockShared)
}

/// Waits until no other test holds a lock, and keeps others waiting. For tests that break what all tests share.
pub fn lock_exclusive() -> Result<ClusterLock, String> {
    lock(FlockOperation::LockExclusive)
}

/// Drops every packet to and from this address from now on, as an unplugged cable does: neither side gets an error. It
/// also drops the kubelet's probes, which the node sends.
pub fn block_pod(pod: Ipv4Addr) -> Result<(), String> {
    nft(&format!("{}add element inet {TABLE} pods {{ {pod} }}\n", create_table()))
}

/// Ends `block_pod`.
pub fn unblock_pod(pod: Ipv4Addr) -> Result<(), String> {
    nft(&format!("delete element inet {TABLE} pods {{ {pod} }}\n"))
}

/// Drops every packet between these two pods. All other traffic, the kubelet's included, passes.
pub fn block_between(one: Ipv4Addr, other: Ipv4Addr) -> Result<(), String> {
    let pairs = both_directions(one, other);
    nft(&format!("{}add element inet {TABLE} pairs {pairs}\n", create_table()))
}

/// Ends `block_between`.
pub fn unblock_between(one: Ipv4Addr, other: Ipv4Addr) -> Result<(), String> {
    nft(&format!("delete element inet {TABLE} pairs {}\n", both_directions(one, other)))
}

/// Delays every packet to this pod by this duration; zero ends the delay. Needs the kernel's netem.
pub fn delay_pod(pod: Ipv4Addr, delay: Duration) -> Result<(), String> {
    let route = subprocess::capture(Command::new("ip").args(["route", "get", &pod.to_string()]))?;
    let mut words = route.split_whitespace().skip_while(|&word| word != "dev");
    let link = words.nth(1).ok_or_else(|| format!("no link leads to {pod}: {route}"))?;
    if delay.is_zero() {
        return subprocess::capture(Command::new("tc").args(["qdisc", "del", "dev", link, "root"]))
            .map(drop);
    }
    let delay = format!("{}us", delay.as_micros());
    let mut tc = Command::new("tc");
    tc.args(["qdisc", "replace", "dev", link, "root", "netem", "delay", &delay]);
    match subprocess::capture(&mut tc) {
        Err(error) if error.contains("kind is unknown") => {
            Err("this kernel cannot delay packets: it has no netem (CONFIG_NET_SCH_NETEM)"
                .to_owned())
        }
        result => result.map(drop),
    }
}

// === impl Component ===

impl Component {
    /// A component of the cluster inside which this process runs.
    pub fn named(name: &str) -> Result<Component, String> {
        let known = COMPONENT_NAMES.into_iter().find(|&known| known == name);
        let name =
            known.ok_or_else(|| format!("`{name}` is none of {}", COMPONENT_NAMES.join(", ")))?;
        Ok(Component { folder: ClusterFolder::from_environment()?, name })
    }

    /// The ID of its process, in the cluster's PID namespace, if it runs.
    pub fn process_id(&self) -> Option<u32> {
        fs::read_to_string(self.file("pid")).ok()?.trim().parse().ok()
    }

    /// Kills the process, as a crash does. The supervisor restarts it after 200 ms.
    pub fn kill(&self) -> Result<(), String> {
        let id = self.running_process()?;
        self.signal(id, Signal::KILL)?;
        self.wait_until("end", TIMEOUT, || !is_alive(id))
    }

    /// Stops the process and keeps the supervisor from restarting it.
    pub fn stop(&self) -> Result<(), String> {
        files::write(&self.file("down"), "")?;
        let Some(id) = self.process() else { return Ok(()) };
        self.signal(id, Signal::TERM)?;
        if self.wait_until("end", GRACEFUL_STOP_TIMEOUT, || !is_alive(id)).is_err() {
            self.signal(id, Signal::KILL)?;
        }
        self.wait_until("end", TIMEOUT, || !is_alive(id))
    }

    /// Lets the supervisor start the process and returns when it has; the component may not be ready yet.
    pub fn start(&self) -> Result<(), String> {
        if self.file("down").exists() {
            fs::remove_file(self.file("down")).map_err(files::with_path(&self.file("down")))?;
        }
        self.wait_until("start", TIMEOUT, || self.process().is_some())
    }

    /// Suspends the process (SIGSTOP): its connections stay open and it does not answer.
    pub fn pause(&self) -> Result<(), String> {
        self.signal(self.running_process()?, Signal::STOP)
    }

    /// Ends `pause`.
    pub fn resume(&self) -> Result<(), String> {
        self.signal(self.running_process()?, Signal::CONT)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.component(self.name).join(name)
    }

    fn process(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.process_id()?).ok()?)
    }

    fn running_process(&self) -> Result<Pid, String> {
        self.process().ok_or_else(|| format!("{} is not running", self.name))
    }

    fn signal(&self, id: Pid, signal: Signal) -> Result<(), String> {
        kill_process(id, signal).map_err(|error| format!("{signal:?} to {}: {error}", self.name))
    }

    fn wait_until(
        &self,
        verb: &str,
        timeout: Duration,
        condition: impl Fn() -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + timeout;
        while !condition() {
            if Instant::now() > deadline {
                return Err(format!("{} did not {verb} within {timeout:?}", self.name));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}

/// A process that has ended counts as alive until the supervisor reaps it, a few milliseconds later.
fn is_alive(id: Pid) -> bool {
    test_kill_process(id).is_ok()
}

fn lock(operation: FlockOperation) -> Result<ClusterLock, String> {
    let path = ClusterFolder::from_environment()?.path().join("tests.lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(files::with_path(&path))?;
    flock(&file, operation).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(ClusterLock { _file: file })
}

const TABLE: &str = "agimo-faults";

/// Commands that create the table which drops packets. They run before each new fault and leave the elements of the sets
/// unchanged. The hooks come after kube-proxy's translation of service addresses, so the rules also match packets that
/// were sent to a Service.
fn create_table() -> String {
    let mut text = format!(
        "add table inet {TABLE}\n\
         add set inet {TABLE} pods {{ type ipv4_addr; }}\n\
         add set inet {TABLE} pairs {{ type ipv4_addr . ipv4_addr; }}\n"
    );
    for hook in ["input", "forward", "output"] {
        text.push_str(&format!(
            "add chain inet {TABLE} {hook} {{ type filter hook {hook} priority 0; }}\n\
             flush chain inet {TABLE} {hook}\n\
             add rule inet {TABLE} {hook} ip saddr @pods drop\n\
             add rule inet {TABLE} {hook} ip daddr @pods drop\n\
             add rule inet {TABLE} {hook} ip saddr . ip daddr @pairs drop\n"
        ));
    }
    text
}

fn both_directions(one: Ipv4Addr, other: Ipv4Addr) -> String {
    format!("{{ {one} . {other}, {other} . {one} }}")
}

fn nft(commands: &str) -> Result<(), String> {
    subprocess::run_with_input(Command::new("nft").args(["-f", "-"]), commands)
}
