//! Keeps the parts running, as an init system does: starts what is not down, starts again what died, buries orphans.
//! It asks nobody whether a part is well.

use std::fs::{self, OpenOptions};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, wait};

use super::parts::{self, Part, Starts};
use super::search_path;
use crate::files;
use crate::folder::{Folder, VARIABLE};

/// A part that died starts again after this long.
const PAUSE_BEFORE_RESTART: Duration = Duration::from_millis(200);
/// How often deaths and the `down` files are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A part and its process.
struct Supervised {
    part: Part,
    id: Option<u32>,
    /// Not to be started before this.
    not_before: Instant,
}

/// Runs for ever; the end of the bring-up with an error is in its own file.
pub(super) fn supervise(folder: &Folder) -> Result<(), String> {
    let mut parts: Vec<Supervised> = Vec::new();
    for part in parts::of(folder) {
        files::create_folder(&folder.part(part.name))?;
        if part.starts == Starts::WithTheApi {
            files::write(&folder.part(part.name).join("down"), "")?;
        }
        parts.push(Supervised { part, id: None, not_before: Instant::now() });
    }
    start_bring_up(folder)?;
    loop {
        while let Ok(Some((id, _))) = wait(WaitOptions::NOHANG) {
            for supervised in &mut parts {
                supervised.bury(folder, id)?;
            }
        }
        for supervised in &mut parts {
            supervised.start_if_due(folder)?;
        }
        thread::sleep(LOOK);
    }
}

/// Its own process, so that here only parts have to be waited for.
fn start_bring_up(folder: &Folder) -> Result<(), String> {
    let this = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
    let mut command = Command::new(this);
    command.arg("bring-up").env(VARIABLE, folder.path()).env("PATH", search_path(folder)?);
    command.spawn().map_err(|error| format!("testbed bring-up did not start: {error}"))?;
    Ok(())
}

// === impl Supervised ===

impl Supervised {
    fn start_if_due(&mut self, folder: &Folder) -> Result<(), String> {
        let own = folder.part(self.part.name);
        if self.id.is_some() || Instant::now() < self.not_before || own.join("down").exists() {
            return Ok(());
        }
        let log = folder.log(self.part.name);
        let open = OpenOptions::new().create(true).append(true).open(&log);
        let output = open.map_err(files::naming(&log))?;
        let errors = output.try_clone().map_err(files::naming(&log))?;
        let program = folder.programs().join(self.part.name);
        let child = Command::new(&program)
            .args(&self.part.arguments)
            .env("PATH", search_path(folder)?)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(files::naming(&program))?;
        files::write(&own.join("pid"), child.id().to_string())?;
        self.id = Some(child.id());
        Ok(())
    }

    /// If it is this one that died, it is to start again.
    fn bury(&mut self, folder: &Folder, dead: Pid) -> Result<(), String> {
        if self.id.is_none_or(|id| i64::from(id) != i64::from(dead.as_raw_pid())) {
            return Ok(());
        }
        self.id = None;
        self.not_before = Instant::now() + PAUSE_BEFORE_RESTART;
        let file = folder.part(self.part.name).join("pid");
        fs::remove_file(&file).map_err(files::naming(&file))
    }
}
