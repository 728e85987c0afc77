//! What two services of a file cannot have in common, and what services of one workload must agree on.

use std::collections::HashMap;
use std::ops::Range;

use super::service::ParsedService;
use crate::config::report::{Problem, line_column};
use crate::config::{ServiceConfig, WorkloadConfig};
use crate::workload::WorkloadId;

/// What the services before the current one use, and where that is written.
#[derive(Default)]
pub(super) struct EarlierServices {
    /// By host and path prefix.
    routes: HashMap<(String, String), Range<usize>>,
    /// Fixed ports of local processes.
    ports: HashMap<u16, (WorkloadId, Range<usize>)>,
    workloads: HashMap<WorkloadId, (WorkloadConfig, Range<usize>)>,
}

// === impl EarlierServices ===

impl EarlierServices {
    /// Every conflict of a service with those before it.
    pub(super) fn conflicts(&mut self, text: &str, service: &ParsedService) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.check_route(text, service).into_iter().collect();
        if let Some(config) = &service.config {
            problems.extend(self.check_port(text, service, config));
            problems.extend(self.check_workload(text, service, config));
        }
        problems
    }

    fn check_route(&mut self, text: &str, service: &ParsedService) -> Option<Problem> {
        let ((host, prefix), span) = service.route.clone()?;
        let Some(first) = self.routes.get(&(host.clone(), prefix.clone())) else {
            self.routes.insert((host, prefix), span);
            return None;
        };
        let (line, _) = line_column(text, first.start);
        Some(Problem {
            span,
            message: format!(
                "host \"{host}\" with path_prefix \"{prefix}\" is already used by the service in line {line}"
            ),
            help: "write another `host` or `path_prefix`, or remove one of the two services"
                .to_owned(),
            related: Some((first.clone(), "first here".to_owned())),
        })
    }

    /// Services of one workload share its processes and so the port.
    fn check_port(
        &mut self,
        text: &str,
        service: &ParsedService,
        config: &ServiceConfig,
    ) -> Option<Problem> {
        let WorkloadConfig::Process(process) = &config.workload else { return None };
        let (port, span) = (process.port?, service.port.clone()?);
        let id = config.workload_id();
        let (first_id, first) =
            self.ports.entry(port).or_insert_with(|| (id.clone(), span.clone()));
        if *first_id == id {
            return None;
        }
        let (line, _) = line_column(text, first.start);
        Some(Problem {
            span,
            message: format!("port {port} is already used by the service in line {line}"),
            help: "write another port, or remove `port`: agimo then chooses a free one".to_owned(),
            related: Some((first.clone(), "first here".to_owned())),
        })
    }

    /// Several services may lead to one workload, but it can run in one way only.
    fn check_workload(
        &mut self,
        text: &str,
        service: &ParsedService,
        config: &ServiceConfig,
    ) -> Option<Problem> {
        let id = config.workload_id();
        let span = service.workload.clone();
        let Some((known, first)) = self.workloads.get(&id) else {
            self.workloads.insert(id, (config.workload.clone(), span));
            return None;
        };
        let line = || line_column(text, first.start).0;
        let (message, help) = match (known, &config.workload) {
            (WorkloadConfig::Kubernetes(known), WorkloadConfig::Kubernetes(config))
                if known.scaler != config.scaler =>
            {
                let (here, there) = (config.scaler.as_str(), known.scaler.as_str());
                let message = format!(
                    "{id} has scaler \"{here}\" here and \"{there}\" in the service in line {}",
                    line()
                );
                (message, "write the same `scaler` in every service of the workload".to_owned())
            }
            (WorkloadConfig::Kubernetes(known), WorkloadConfig::Kubernetes(config))
                if known.mode != config.mode =>
            {
                let (here, there) = (config.mode.as_str(), known.mode.as_str());
                let message = format!(
                    "{id} has mode \"{here}\" here and \"{there}\" in the service in line {}",
                    line()
                );
                (message, "write the same `mode` in every service of the workload".to_owned())
            }
            (WorkloadConfig::Kubernetes(known), WorkloadConfig::Kubernetes(config))
                if known.autoscaling != config.autoscaling =>
            {
                let message =
                    format!("{id} is scaled differently by the service in line {}", line());
                let help =
                    "write the same targets, bounds and windows in every service of the workload";
                (message, help.to_owned())
            }
            (WorkloadConfig::Process(known), WorkloadConfig::Process(config))
                if known != config =>
            {
                let message = format!(
                    "process \"{}\" is configured differently by the service in line {}",
                    config.name,
                    line()
                );
                let help = "write the same keys of the process in both services, or another `name`";
                (message, help.to_owned())
            }
            _ => return None,
        };
        let related = Some((first.clone(), "first here".to_owned()));
        Some(Problem { span, message, help, related })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse::parse;
    use crate::config::report::one_line;

    const SEED: &str = "[[services]]\nhost = 'example.com'\ntype = 'deploy'\nnamespace = 'default'\n\
        name = 'example'\nservice_name = 'example'\nservice_port = 80\n";
    const PROCESS: &str = "[[services]]\nhost = 'a'\ntype = 'process'\ncommand = ['x']\n";

    fn problems_of(text: &str) -> Vec<String> {
        let problems = parse(text).expect_err("a problem");
        problems.iter().map(|problem| one_line("", text, problem)).collect()
    }

    #[test]
    fn services_of_one_workload_must_agree_on_it() {
        let both = format!("{SEED}{}", SEED.replace("example.com", "example.org"));
        assert_eq!(parse(&both).unwrap().services.len(), 2);
        let found = problems_of(&format!("{both}scaler = 'agimo'\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        let expected = ":15:10: deployment default/example has scaler \"agimo\" here and \"external\" in the service in line";
        assert!(found[0].starts_with(expected), "{found:?}");

        let shared = format!("{PROCESS}name = 'shop'\nport = 80\n");
        let both = format!("{shared}{}", shared.replace("'a'", "'b'"));
        let config = parse(&format!("{both}sleep_after = '1h'\n")).unwrap();
        assert_eq!(config.services[0].workload_id(), config.services[1].workload_id());
        let found = problems_of(&format!("{both}stop_grace = '1h'\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        let expected = "process \"shop\" is configured differently by the service in line";
        assert!(found[0].contains(expected), "{found:?}");
        let own = parse(&format!("{PROCESS}{PROCESS}path_prefix = '/b'\n")).unwrap();
        assert_ne!(own.services[0].workload_id(), own.services[1].workload_id());
    }
}
