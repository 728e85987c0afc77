//! Reads what a process has used from /proc: CPU and memory. It never touches the process.

use std::fs;
use std::io;

/// The processes that make up one contestant; their sums are its figures.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    pids: Vec<u32>,
}

/// CPU time of a contestant in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) used_ns: u64,
    /// Time in which it could have run but something else had its core.
    pub(crate) waited_ns: u64,
}

/// Memory of a contestant in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Resident set size.
    pub(crate) rss: u64,
    /// Proportional set size: shared pages count by their share.
    pub(crate) pss: u64,
}

// === impl Meter ===

impl Meter {
    /// One process alone, without the children that it may start.
    pub(crate) fn process(pid: u32) -> Self {
        Self { pids: vec![pid] }
    }

    /// A process and the children that it has now (a master and its worker).
    pub(crate) fn family(pid: u32) -> io::Result<Self> {
        let mut pids = vec![pid];
        for entry in fs::read_dir("/proc")? {
            let Some(other) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if parent(other) == Some(pid) {
                pids.push(other);
            }
        }
        Ok(Self { pids })
    }

    /// How many processes are counted.
    pub(crate) fn processes(&self) -> usize {
        self.pids.len()
    }

    /// CPU time so far, user and kernel, all threads; an error when the kernel does not say.
    ///
    /// From `schedstat`, which counts in nanoseconds; `stat` counts in ticks of 10 ms.
    pub(crate) fn cpu(&self) -> io::Result<Cpu> {
        let mut total = Cpu::default();
        for pid in &self.pids {
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                // A thread may end between the listing and the reading; its time is then lost.
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

    /// Memory now, counted page by page (`smaps_rollup`; `status` is allowed to lag behind).
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

// === impl Cpu ===

impl Cpu {
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

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("PPid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
