//! `agimo demo`: runs the proxy with a sample application, and prints what happens to it.
//!
//! The demo is part of the released binary on purpose: the two commands of README.md need nothing else.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::activation::event_log;
use crate::activation::events::{EventBus, EventKind, LifecycleEvent};
use crate::app::changes::ChangeSettings;
use crate::app::ports::ControlPorts;
use crate::app::{self, AppSettings, Listeners};
use crate::cli::DemoOptions;
use crate::config::{Config, parse, report};
use crate::process::child::OUTPUT_TARGET;

pub mod application;

/// Shows lifecycle events, the output of the application, and warnings: one line each on standard output.
#[derive(Clone, Copy)]
struct Timeline {
    started: Instant,
}

/// Collects the text of a log line.
#[derive(Default)]
struct Message(String);

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The preferred admin port; if it is in use, the kernel chooses one.
const ADMIN_PORT: u16 = 9090;

/// Runs the demo until Ctrl-C.
pub fn run(options: &DemoOptions) -> anyhow::Result<()> {
    let config = config(options)?;
    let listeners = listen(options.port)?;
    print_introduction(options, &listeners)?;
    let timeline = Timeline { started: Instant::now() };
    tracing_subscriber::registry().with(timeline.with_filter(LevelFilter::INFO)).init();
    let events = EventBus::default();
    timeline.follow(events.subscribe())?;
    // Ctrl-C must end the demo at once, even with an open stream.
    let drain_timeout = Duration::from_millis(200);
    let settings = AppSettings {
        config,
        file: None,
        access_log: false,
        drain_timeout,
        cluster: None,
        control_ports: ControlPorts::default(),
        changes: ChangeSettings::default(),
        otlp: None,
        events,
    };
    app::run(settings, listeners)
}

/// Runs the sample application; agimo starts it as a child process.
pub fn run_application(port: u16, sleep_after: Duration) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(application::run(port, sleep_after))?)
}

/// The configuration of the demo: one service of type `process`.
fn config(options: &DemoOptions) -> anyhow::Result<Config> {
    let sleep_after = humantime::format_duration(options.sleep_after);
    let text = format!(
        "[[services]]\nhost = \"{HOST}\"\ntype = \"process\"\nname = \"application\"\n\
         command = [\"/proc/self/exe\", \"demo-application\", \"--sleep-after\", \"{sleep_after}\"]\n\
         sleep_after = \"{sleep_after}\"\nreadiness = \"/hello\"\nstop_grace = \"2s\"\n"
    );
    parse::parse(&text).map_err(|problems| {
        let lines = problems.iter().map(|problem| report::one_line("the demo", &text, problem));
        anyhow::anyhow!("{}", lines.collect::<Vec<_>>().join("\n"))
    })
}

/// Binds the requested port, or a free one if it is in use.
fn listen(port: u16) -> anyhow::Result<Listeners> {
    let at = |port: u16| SocketAddr::from((HOST, port));
    for (port, admin_port) in [(port, ADMIN_PORT), (port, 0), (0, ADMIN_PORT)] {
        match Listeners::bind(at(port), None, at(admin_port), 1) {
            Err(error) if is_in_use(&error) => {}
            bound => return bound,
        }
    }
    Listeners::bind(at(0), None, at(0), 1)
}

fn is_in_use(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn print_introduction(options: &DemoOptions, listeners: &Listeners) -> anyhow::Result<()> {
    let proxy = listeners.proxy.first().map(|listener| listener.local_addr()).transpose()?;
    let port = proxy.map_or(options.port, |address| address.port());
    let admin = listeners.admin.local_addr()?;
    let mut text = String::from("\n");
    if options.port != 0 && port != options.port {
        writeln!(text, "  Port {} is in use, so the demo listens on port {port}.\n", options.port)?;
    }
    let sleep_after = humantime::format_duration(options.sleep_after);
    write!(
        text,
        "  A sample application is asleep behind agimo. The first request starts it:\n\n\
         \x20   http://{HOST}:{port}/\n\n\
         \x20 or, from another terminal:\n\n\
         \x20   curl -w '%{{time_total}} s\\n' http://{HOST}:{port}/hello\n\
         \x20   curl -N http://{HOST}:{port}/events\n\
         \x20   curl 'http://{HOST}:{port}/slow?ms=2000'\n\
         \x20   curl -s http://{admin}/metrics | grep ^agimo_\n\n\
         \x20 The dashboard of agimo: http://{admin}/ui\n\n\
         \x20 The application is stopped after {sleep_after} without an open connection. Ctrl-C ends both.\n\n"
    )?;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

// === impl Timeline ===

impl Timeline {
    /// Shows the events from a thread of its own, which ends with the process.
    fn follow(self, mut events: Receiver<LifecycleEvent>) -> anyhow::Result<()> {
        std::thread::Builder::new().name("timeline".to_owned()).spawn(move || {
            loop {
                match events.blocking_recv() {
                    Ok(event) => {
                        if let Some(text) = describe(&event.kind) {
                            self.show(&text);
                        }
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        })?;
        Ok(())
    }

    fn show(&self, text: &str) {
        let at = self.started.elapsed().as_secs_f64();
        // A closed terminal does not end the demo.
        let _ = writeln!(std::io::stdout().lock(), "{at:>9.3} s  {text}");
    }
}

impl<S: Subscriber> Layer<S> for Timeline {
    /// What the application prints, and warnings. Events of workloads come another way.
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let is_output = metadata.target() == OUTPUT_TARGET;
        if metadata.target() == event_log::TARGET
            || !(is_output || *metadata.level() <= Level::WARN)
        {
            return;
        }
        let mut message = Message::default();
        event.record(&mut message);
        let speaker = if is_output { "application: " } else { "" };
        self.show(&format!("{speaker}{}", message.0));
    }
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// An event for people; `None` where it adds nothing to the story.
fn describe(event: &EventKind) -> Option<String> {
    let millis = |duration: &Duration| duration.as_millis();
    Some(match event {
        EventKind::WakeRequested { .. } => {
            "request held: the application is asleep, waking it".to_owned()
        }
        EventKind::Started { after } => format!("process started after {} ms", millis(after)),
        EventKind::Ready { after: Some(after), .. } => format!("ready after {} ms", millis(after)),
        EventKind::FirstAnswer { after } => format!("answered after {} ms", millis(after)),
        EventKind::Asleep { idle, .. } => format!("asleep after {:.0} s idle", idle.as_secs_f64()),
        EventKind::ProcessStopped => "process stopped".to_owned(),
        EventKind::ProcessExited { detail } => format!("the process ended by itself: {detail}"),
        EventKind::WakeFailed { detail, .. } => format!("wake failed: {detail}"),
        EventKind::EndpointsLost { .. } => "no endpoint is ready any more".to_owned(),
        _ => return None,
    })
}
