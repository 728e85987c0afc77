//! Executes a program after asking the kernel to kill it when its parent, the keeper, ends.
//!
//! The parent death signal (PR_SET_PDEATHSIG, prctl(2)) has to be set inside the child. Doing that between fork and
//! exec takes unsafe code. So agimo starts itself as the child, sets the signal, and executes the program.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::keeper;

/// The hidden subcommand for `exec_program`.
pub const SUBCOMMAND: &str = "exec-child";

/// The exit status if the program cannot be executed, as in shells.
pub const NOT_STARTED: u8 = 127;

/// This program. Not the path of the executable, which may have been replaced since agimo was started.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The soft limit of open files that agimo was started with. Children get it back, because programs that use select(2)
/// fail under a higher limit.
static OPEN_FILES: OnceLock<Option<u64>> = OnceLock::new();

/// Raises agimo's soft limit of open files to the hard limit, and keeps the old one for its children.
pub fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    OPEN_FILES.get_or_init(|| limit.current);
    // On failure agimo runs with the old limit.
    let _ =
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// The command that starts the keeper of `program` (with its arguments, never empty).
pub fn keeper_command(program: &[String]) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    let open_files = OPEN_FILES.get().copied().flatten().unwrap_or(0);
    command.arg(keeper::SUBCOMMAND).arg(open_files.to_string()).args(program);
    command
}

/// The command by which the keeper starts the program; `arguments` are those of the keeper.
pub fn command(arguments: &[OsString]) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    let own = rustix::process::getpid().as_raw_nonzero().to_string();
    command.arg(SUBCOMMAND).arg(own).args(arguments);
    command
}

/// Executes the program given by the arguments of the hidden subcommand. Returns only on failure, with its reason.
pub fn exec_program(arguments: &[OsString]) -> String {
    let [parent, open_files, program, rest @ ..] = arguments else {
        return "this subcommand is internal to agimo".to_owned();
    };
    let number =
        |text: &OsStr| text.to_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return format!("cannot set the parent death signal: {error}");
    }
    // The parent may have died before the signal was set.
    let parent = Pid::from_raw(number(parent) as i32);
    if rustix::process::getppid() != parent {
        return "the keeper has ended".to_owned();
    }
    if let current @ 1.. = number(open_files) {
        let limit = rustix::process::getrlimit(Resource::Nofile);
        let lowered = Rlimit { current: Some(current), ..limit };
        let _ = rustix::process::setrlimit(Resource::Nofile, lowered);
    }
    let error = Command::new(program).args(rest).exec();
    format!("cannot run {}: {error}", program.display())
}
