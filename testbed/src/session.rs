//! Starts and stops clusters for people and for the test run: a cluster that runs until `down`, or one that runs as long
//! as a command.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testbed::build::BuildScope;
use testbed::cluster::{self, Cluster};
use testbed::cluster_folder::ClusterFolder;
use testbed::{addons, build};

use super::{Arguments, CommandResult};

/// Starts a process that owns the cluster and outlives this one, and waits until the cluster is up.
pub(super) fn up(
    folder: &ClusterFolder,
    with_addons: bool,
    agimo: Option<&Path>,
) -> Result<(), String> {
    if cluster::is_up(folder) {
        println!("cluster `{}` is already up", folder.name());
    } else {
        // Built here and not in the owner process, so that the progress is printed to the terminal.
        build::build(build_scope(with_addons))?;
        start_owner(folder, agimo)?;
    }
    if with_addons {
        addons::install_into(folder)?;
    }
    print_instructions(folder);
    Ok(())
}

fn start_owner(folder: &ClusterFolder, agimo: Option<&Path>) -> Result<(), String> {
    let started = Instant::now();
    let testbed = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
    let log = folder.path().with_extension("log");
    let output = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let errors = output.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
    let mut owner = Command::new(testbed);
    owner.arg("run-cluster").arg(folder.name());
    if let Some(agimo) = agimo {
        owner.arg("--agimo").arg(agimo);
    }
    // A process group of its own: Ctrl-C in this terminal must not stop the cluster.
    owner.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors).current_dir("/");
    let mut owner =
        owner.spawn().map_err(|error| format!("starting testbed run-cluster: {error}"))?;
    println!("starting cluster `{}`", folder.name());
    let mut printed = 0;
    loop {
        // The status is read before the log, so that the last lines of the log are printed.
        let ended = owner
            .try_wait()
            .map_err(|error| format!("waiting for the cluster's owner: {error}"))?;
        let is_up = cluster::is_up(folder);
        let text = fs::read_to_string(&log).unwrap_or_default();
        print!("{}", text.get(printed..).unwrap_or_default());
        printed = text.len();
        if let Some(status) = ended {
            return Err(format!(
                "the cluster did not start: its owner process ended with {status}"
            ));
        }
        if is_up {
            let _ = fs::remove_file(&log);
            println!("up after {:.1} s", started.elapsed().as_secs_f64());
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn print_instructions(folder: &ClusterFolder) {
    let name = folder.name();
    println!(
        "\n  KUBECONFIG={}\n  shell:     cargo xtask cluster shell --name {name}\n  \
         command:   cargo xtask cluster shell --name {name} -- kubectl get pods -A\n  \
         request:   cargo xtask cluster shell --name {name} -- curl http://POD-ADDRESS:8080/\n  \
         logs:      {}\n  stop:      cargo xtask cluster down --name {name}\n\
         The addresses of pods, services and the API server are reachable only inside the cluster's shell.",
        folder.kubeconfig().display(),
        folder.logs().display()
    );
}

/// Starts a cluster, runs the command outside it with `AGIMO_TESTBED_NAME` set, and stops the cluster. The exit code is
/// that of the command.
pub(super) fn with(folder: &ClusterFolder, arguments: &Arguments) -> CommandResult {
    let (program, words) =
        arguments.command.split_first().ok_or("the command after `--` is missing")?;
    let binaries = build::build(build_scope(arguments.addons))?;
    let started = Instant::now();
    println!("starting cluster `{}`", folder.name());
    let cluster = Cluster::start(folder, &binaries, arguments.agimo())?;
    println!("up after {:.1} s", started.elapsed().as_secs_f64());
    let status = install_requested_addons(folder, arguments).and_then(|()| {
        // The kernel kills the command when this process ends, however it ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).args(words);
        command.env("AGIMO_TESTBED_NAME", folder.name());
        command.status().map_err(|error| subprocess::start_error(&command, &error))
    });
    let succeeded = status.as_ref().is_ok_and(|status| status.success());
    if let (false, Some(logs)) = (succeeded, &arguments.keep_logs) {
        keep_logs(cluster.folder(), logs)?;
        eprintln!("the cluster's logs are kept in {}", logs.display());
    }
    drop(cluster);
    let code = status?.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

fn build_scope(with_addons: bool) -> BuildScope {
    if with_addons { BuildScope::ClusterAndAddOns } else { BuildScope::Cluster }
}

fn install_requested_addons(folder: &ClusterFolder, arguments: &Arguments) -> Result<(), String> {
    if arguments.addons { addons::install_into(folder) } else { Ok(()) }
}

/// Copies the logs of the node's components and of the pods to `target`, and writes the state of the API objects there.
fn keep_logs(folder: &ClusterFolder, target: &Path) -> Result<(), String> {
    let _ = fs::remove_dir_all(target);
    fs::create_dir_all(target).map_err(|error| format!("{}: {error}", target.display()))?;
    for (from, to) in [(folder.logs(), "components"), (folder.pod_logs(), "pods")] {
        let mut copy = Command::new("cp");
        copy.arg("-rL").arg(from).arg(target.join(to));
        copy.status().map_err(|error| subprocess::start_error(&copy, &error))?;
    }
    let queries = [
        ("objects.txt", "get all,endpointslices -A -o wide"),
        ("scaled.txt", "get scaledobjects,hpa -A -o yaml"),
        ("events.txt", "get events -A --sort-by=.lastTimestamp"),
        ("pods.txt", "describe pods -A"),
    ];
    let testbed = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
    for (file, query) in queries {
        let mut kubectl = Command::new(&testbed);
        kubectl.args(["enter", folder.name(), "--", "kubectl"]);
        let output = kubectl.args(query.split(' ').map(OsString::from)).output();
        let output = output.map_err(|error| format!("testbed enter: {error}"))?;
        let path = target.join(file);
        fs::write(&path, output.stdout).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

pub(super) fn status() -> Result<(), String> {
    let all = ClusterFolder::all();
    if all.is_empty() {
        println!("no cluster");
    }
    for folder in all {
        let state = if cluster::is_up(&folder) { "up" } else { "not up" };
        println!("{:<16} {state:<8} {}", folder.name(), folder.path().display());
    }
    Ok(())
}
