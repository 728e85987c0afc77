//! Starts the components of the node and restarts those that end, as an init system does. As the first process of its PID
//! namespace it also reaps orphans. It does not check whether a component works.

use std::fs::{self, OpenOptions};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, wait};

use super::components::{self, Component, StartCondition};
use super::search_path;
use crate::cluster_folder::{ClusterFolder, FOLDER_VARIABLE};
use crate::files;

const RESTART_DELAY: Duration = Duration::from_millis(200);
/// How often ended processes and `down` files are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A component and its process.
struct SupervisedComponent {
    component: Component,
    /// Process ID, while the component runs.
    id: Option<u32>,
    /// The earliest time of the next start.
    not_before: Instant,
}

/// Runs until the node is killed. Returns only on an error of the supervisor itself; the bring-up reports its own.
pub(super) fn supervise(folder: &ClusterFolder) -> Result<(), String> {
    let mut all: Vec<SupervisedComponent> = Vec::new();
    for component in components::all(folder) {
        files::create_folder(&folder.component(component.name))?;
        if component.start_condition == StartCondition::ApiServerReady {
            files::write(&folder.component(component.name).join("down"), "")?;
        }
        all.push(SupervisedComponent { component, id: None, not_before: Instant::now() });
    }
    start_bring_up(folder)?;
    loop {
        while let Ok(Some((id, _))) = wait(WaitOptions::NOHANG) {
            for supervised in &mut all {
                supervised.record_exit(folder, id)?;
            }
        }
        for supervised in &mut all {
            supervised.start_if_due(folder)?;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// The bring-up is a process of its own, because the supervisor must never wait for anything but ended processes.
fn start_bring_up(folder: &ClusterFolder) -> Result<(), String> {
    let testbed = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
    let mut command = Command::new(testbed);
    command.arg("bring-up").env(FOLDER_VARIABLE, folder.path()).env("PATH", search_path(folder)?);
    subprocess::spawn(&mut command)?;
    Ok(())
}

// === impl SupervisedComponent ===

impl SupervisedComponent {
    fn start_if_due(&mut self, folder: &ClusterFolder) -> Result<(), String> {
        let name = self.component.name;
        let state = folder.component(name);
        if self.id.is_some() || Instant::now() < self.not_before || state.join("down").exists() {
            return Ok(());
        }
        let log = folder.log(name);
        let open = OpenOptions::new().create(true).append(true).open(&log);
        let output = open.map_err(files::with_path(&log))?;
        let errors = output.try_clone().map_err(files::with_path(&log))?;
        let program = folder.programs().join(name);
        let child = Command::new(&program)
            .args(&self.component.arguments)
            .env("PATH", search_path(folder)?)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(files::with_path(&program))?;
        files::write(&state.join("pid"), child.id().to_string())?;
        self.id = Some(child.id());
        Ok(())
    }

    /// If the process that ended was this component's, schedules the restart.
    fn record_exit(&mut self, folder: &ClusterFolder, ended: Pid) -> Result<(), String> {
        if self.id.is_none_or(|id| i64::from(id) != i64::from(ended.as_raw_pid())) {
            return Ok(());
        }
        self.id = None;
        self.not_before = Instant::now() + RESTART_DELAY;
        let file = folder.component(self.component.name).join("pid");
        fs::remove_file(&file).map_err(files::with_path(&file))
    }
}
