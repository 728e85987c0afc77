//! STUB.
use super::*;
use super::report::Problem;
pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let t: toml::Table = text.parse().map_err(|e: toml::de::Error| vec![Problem{span:0..0,message:e.to_string(),help:String::new()}])?;
    let d = |t: &toml::Table, k: &str, or: u64| t.get(k).and_then(|v| v.as_str()).map(|s| humantime::parse_duration(s).unwrap()).unwrap_or(Duration::from_secs(or));
    let n = |t: &toml::Table, k: &str, or: i64| t.get(k).and_then(|v| v.as_integer()).unwrap_or(or);
    let top = &t;
    let services = t["services"].as_array().unwrap().iter().map(|s| {
        let s = s.as_table().unwrap();
        let dd = |k: &str, or: u64| if s.contains_key(k) { d(s,k,or) } else { d(top,k,or) };
        let st = |k: &str| s.get(k).and_then(|v| v.as_str()).unwrap_or("").to_owned();
        let workload = if st("type") == "process" { WorkloadConfig::Process(ProcessConfig {
            name: if st("name").is_empty() { st("host") } else { st("name") },
            command: s["command"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect(),
            env: Default::default(), workdir: None, port: s.get("port").and_then(|p| p.as_integer()).map(|p| p as u16),
            readiness: if st("readiness").starts_with('/') { Readiness::Http(st("readiness")) } else { Readiness::Tcp },
            start_timeout: dd("start_timeout", 60), stop_grace: dd("stop_grace", 10), replicas: n(s, "replicas", 1) as u32 }) }
        else { WorkloadConfig::Kubernetes(KubernetesConfig{kind: KubernetesKind::Deployment, namespace: st("namespace"), name: st("name"), service_name: st("service_name"), service_port: 80}) };
        ServiceConfig { host: st("host"), path_prefix: if st("path_prefix").is_empty() {"/".into()} else {st("path_prefix")}, workload,
            hold_timeout: dd("timeout", 30), max_held: n(if s.contains_key("max_held") {s} else {top}, "max_held", 1000) as u32, sleep_after: dd("sleep_after", 300), connect_timeout: dd("connect_timeout", 5), response_timeout: None, idle_timeout: None, max_body: None }
    }).collect();
    Ok(Config { max_held_total: n(top, "max_held_total", 10000) as u32, trusted_proxies: vec![], client: ClientLimits { max_head: 32768, max_uri: 8192, max_headers: 100, head_timeout: d(top, "head_timeout", 10), keep_alive_timeout: d(top,"keep_alive_timeout",75) }, services })
}
