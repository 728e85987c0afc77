//! Reads the CPU time and memory of processes from /proc.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// The processes of one server; the statistics are their sums.
#[derive(Clone, Debug)]
pub(crate) struct ProcessStats {
    pids: Vec<u32>,
}

/// CPU time of a server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    /// Time on a CPU, in nanoseconds.
    pub(crate) used_ns: u64,
    /// Time in which it was runnable but waited for a CPU, in nanoseconds.
    pub(crate) waited_ns: u64,
}

/// Memory of a server, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Resident set size.
    pub(crate) rss: u64,
    /// Proportional set size: each shared page is divided by the number of processes that share it.
    pub(crate) pss: u64,
}

// === impl ProcessStats ===

impl ProcessStats {
    /// One process without its children.
    pub(crate) fn of_process(pid: u32) -> Self {
        Self { pids: vec![pid] }
    }

    /// A process and its current children (a master and its worker).
    pub(crate) fn of_process_and_children(pid: u32) -> io::Result<Self> {
        let mut pids = vec![pid];
        for entry in fs::read_dir("/proc")? {
            let Some(other) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if parent_of(other) == Some(pid) {
                pids.push(other);
            }
        }
        Ok(Self { pids })
    }

    /// Number of processes.
    pub(crate) fn process_count(&self) -> usize {
        self.pids.len()
    }

    /// CPU time so far, user and kernel, of all threads. Fails if the kernel does not provide it.
    ///
    /// Reads `schedstat`, which has nanosecond resolution; `stat` has ticks of 10 ms.
    pub(crate) fn cpu(&self) -> io::Result<CpuTime> {
        let mut total = CpuTime::default();
        for pid in &self.pids {
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                // A thread may exit between listing and reading; its time is then not counted.
                let line = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
                let mut fields = line.split(' ').filter_map(|field| field.parse::<u64>().ok());
                total.used_ns += fields.next().unwrap_or(0);
                total.waited_ns += fields.next().unwrap_or(0);
            }
        }
        if total.used_ns == 0 {
            return Err(io::Error::other("/proc/PID/task/*/schedstat shows no CPU time"));
        }
        Ok(total)
    }

    /// The most memory that was resident at once since the start, in bytes.
    pub(crate) fn peak_memory(&self) -> io::Result<u64> {
        let mut total = 0;
        for pid in &self.pids {
            let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
            total += kibibytes(&text, "VmHWM:").unwrap_or(0) * 1024;
        }
        Ok(total)
    }

    /// Memory when it no longer changes, or after three seconds.
    pub(crate) fn stable_memory(&self) -> io::Result<Memory> {
        let deadline = Instant::now() + Duration::from_secs(3);
        let mut last = self.memory()?;
        loop {
            thread::sleep(Duration::from_millis(250));
            let now = self.memory()?;
            if now.rss == last.rss || Instant::now() > deadline {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Current memory, from `smaps_rollup`, which is exact; the values in `status` may be out of date.
    pub(crate) fn memory(&self) -> io::Result<Memory> {
        let mut total = Memory::default();
        for pid in &self.pids {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            total.rss += kibibytes(&text, "Rss:").unwrap_or(0) * 1024;
            total.pss += kibibytes(&text, "Pss:").unwrap_or(0) * 1024;
        }
        Ok(total)
    }
}

// === impl CpuTime ===

impl CpuTime {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            used_ns: self.used_ns.saturating_sub(before.used_ns),
            waited_ns: self.waited_ns.saturating_sub(before.waited_ns),
        }
    }
}

/// The value of a `Name:   123 kB` line.
pub(crate) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("PPid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
