//! Clusters in the hands of people and of the test run: one that stays until it is taken down, or one for the length of
//! a command. How a cluster works is not known here.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testbed::build::Extent;
use testbed::cluster::{self, Cluster, Wanted};
use testbed::folder::Folder;
use testbed::{addons, build};

use super::{Arguments, Ended};

/// Starts a keeper that outlives this process, and waits until its cluster can be used.
pub(super) fn up(folder: &Folder, with_addons: bool, agimo: Option<&Path>) -> Result<(), String> {
    if cluster::is_up(folder) {
        println!("cluster `{}` is up already", folder.name());
    } else {
        // Here and not in the keeper, so that the progress is seen.
        build::build(extent(with_addons))?;
        start_keeper(folder, agimo)?;
    }
    if with_addons {
        addons::install_into(folder)?;
    }
    describe(folder);
    Ok(())
}

fn start_keeper(folder: &Folder, agimo: Option<&Path>) -> Result<(), String> {
    let started = Instant::now();
    let this = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
    let log = folder.path().with_extension("log");
    let output = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let errors = output.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
    let mut keeper = Command::new(this);
    keeper.arg("keep").arg(folder.name());
    if let Some(agimo) = agimo {
        keeper.arg("--agimo").arg(agimo);
    }
    // A group of its own: Ctrl-C here must not reach it.
    keeper.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors).current_dir("/");
    let mut keeper = keeper.spawn().map_err(|error| format!("testbed keep: {error}"))?;
    println!("starting cluster `{}`", folder.name());
    let mut shown = 0;
    loop {
        // Looked at before the log, so that its last words are shown.
        let ended =
            keeper.try_wait().map_err(|error| format!("waiting for the keeper: {error}"))?;
        let is_up = cluster::is_up(folder);
        let said = fs::read_to_string(&log).unwrap_or_default();
        print!("{}", said.get(shown..).unwrap_or_default());
        shown = said.len();
        if let Some(status) = ended {
            return Err(format!("the cluster did not come up: its keeper ended with {status}"));
        }
        if is_up {
            let _ = fs::remove_file(&log);
            println!("up after {:.1} s", started.elapsed().as_secs_f64());
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn describe(folder: &Folder) {
    let name = folder.name();
    println!(
        "\n  KUBECONFIG={}\n  inside:    cargo xtask cluster shell --name {name}\n  \
         one line:  cargo xtask cluster shell --name {name} -- kubectl get pods -A\n  \
         a pod:     cargo xtask cluster shell --name {name} -- curl http://POD-ADDRESS:8080/\n  \
         logs:      {}\n  end:       cargo xtask cluster down --name {name}\n\
         Pod and service addresses, and the API server's, exist only inside.",
        folder.kubeconfig().display(),
        folder.logs().display()
    );
}

/// Starts a cluster, runs the command outside of it with `AGIMO_TESTBED_NAME` set, and ends the cluster. The status is
/// the command's own.
pub(super) fn with(folder: &Folder, arguments: &Arguments) -> Ended {
    let (program, words) = arguments.command.split_first().ok_or("write the command after `--`")?;
    let built = build::build(extent(arguments.addons))?;
    let started = Instant::now();
    println!("starting cluster `{}`", folder.name());
    let cluster = Cluster::start(folder, &built, &Wanted { agimo: arguments.agimo() })?;
    println!("up after {:.1} s", started.elapsed().as_secs_f64());
    let status = prepared(folder, arguments).and_then(|()| {
        // What we start ends with us, however we end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).args(words);
        command.env("AGIMO_TESTBED_NAME", folder.name());
        command.status().map_err(|error| subprocess::start_error(&command, &error))
    });
    let succeeded = status.as_ref().is_ok_and(|status| status.success());
    if let (false, Some(kept)) = (succeeded, &arguments.keep_logs) {
        keep_logs(cluster.folder(), kept)?;
        eprintln!("the cluster's logs are kept in {}", kept.display());
    }
    drop(cluster);
    let code = status?.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

fn extent(with_addons: bool) -> Extent {
    if with_addons { Extent::WithAddOns } else { Extent::Cluster }
}

fn prepared(folder: &Folder, arguments: &Arguments) -> Result<(), String> {
    if arguments.addons { addons::install_into(folder) } else { Ok(()) }
}

/// The logs of the parts and of the pods, and what the cluster says about its objects.
fn keep_logs(folder: &Folder, kept: &Path) -> Result<(), String> {
    let _ = fs::remove_dir_all(kept);
    fs::create_dir_all(kept).map_err(|error| format!("{}: {error}", kept.display()))?;
    for (from, to) in [(folder.logs(), "parts"), (folder.pod_logs(), "pods")] {
        let copied = Command::new("cp").arg("-rL").arg(from).arg(kept.join(to)).status();
        copied.map_err(|error| format!("cp did not start: {error}"))?;
    }
    let questions = [
        ("objects.txt", "get all,endpointslices -A -o wide"),
        ("scaled.txt", "get scaledobjects,hpa -A -o yaml"),
        ("events.txt", "get events -A --sort-by=.lastTimestamp"),
        ("pods.txt", "describe pods -A"),
    ];
    let this = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
    for (file, question) in questions {
        let mut ask = Command::new(&this);
        ask.args(["enter", folder.name(), "--", "kubectl"]);
        let answer = ask.args(question.split(' ').map(OsString::from)).output();
        let answer = answer.map_err(|error| format!("testbed enter: {error}"))?;
        let path = kept.join(file);
        fs::write(&path, answer.stdout).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

pub(super) fn status() -> Result<(), String> {
    let all = Folder::all();
    if all.is_empty() {
        println!("no cluster");
    }
    for folder in all {
        let state = if cluster::is_up(&folder) { "up" } else { "not up" };
        println!("{:<16} {state:<8} {}", folder.name(), folder.path().display());
    }
    Ok(())
}
