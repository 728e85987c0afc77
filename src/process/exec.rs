//! The last step before a child's program: it ties the child to agimo's life, then becomes the program.
//!
//! PDEATHSIG has to be set inside the child. Doing that between fork and exec takes unsafe code; so
//! agimo starts itself, sets it like any program may, and execs.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, Signal};

/// The hidden subcommand that `become_program` serves.
pub const SUBCOMMAND: &str = "exec-child";

/// The exit status when the program could not be run, as shells have it.
pub const NOT_STARTED: u8 = 127;

/// Programs that use select(2) break under a raised soft limit, so a child gets the limit agimo got.
static OPEN_FILES: OnceLock<Option<u64>> = OnceLock::new();

/// Raises agimo's own soft limit of open files to the hard one, and keeps the old for its children.
pub fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    OPEN_FILES.get_or_init(|| limit.current);
    // Where this is refused, the old limit serves on.
    let _ =
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// The command that starts `program` (with its arguments, never empty) as a tied child.
pub fn command(program: &[String]) -> Command {
    // Not the path: the file there may have been replaced since.
    let mut command = Command::new("/proc/self/exe");
    let own = rustix::process::getpid().as_raw_nonzero().to_string();
    let open_files = OPEN_FILES.get().copied().flatten().unwrap_or(0);
    command.arg(SUBCOMMAND).arg(own).arg(open_files.to_string()).args(program);
    command
}

/// Becomes the program that the arguments of the hidden subcommand name; returns only what went wrong.
pub fn become_program(arguments: &[OsString]) -> String {
    let [parent, open_files, program, rest @ ..] = arguments else {
        return "this subcommand is for agimo itself".to_owned();
    };
    let number =
        |text: &OsStr| text.to_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return format!("cannot tie the process to agimo: {error}");
    }
    // The parent may have died before the signal was set.
    let parent = Pid::from_raw(number(parent) as i32);
    if rustix::process::getppid() != parent {
        return "agimo has ended".to_owned();
    }
    if let current @ 1.. = number(open_files) {
        let limit = rustix::process::getrlimit(Resource::Nofile);
        let lowered = Rlimit { current: Some(current), ..limit };
        let _ = rustix::process::setrlimit(Resource::Nofile, lowered);
    }
    let error = Command::new(program).args(rest).exec();
    format!("cannot run {}: {error}", program.display())
}
