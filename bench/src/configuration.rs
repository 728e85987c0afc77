//! Configuration files of the proxies, tuned as their documentation recommends. This module neither writes files nor
//! starts programs.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::http::HOST;

/// A host whose application never becomes ready (agimo only).
pub(crate) const HELD_HOST: &str = "held.local";

/// Options for one agimo process.
#[derive(Clone, Debug)]
pub(crate) struct AgimoSetup {
    /// Number of configured services; requests go to the first.
    pub(crate) services: u32,
    pub(crate) access_log: bool,
    /// A collector of traces, and the share of requests that have a span.
    pub(crate) traces: Option<(SocketAddr, f64)>,
    /// Adds a service whose application never becomes ready.
    pub(crate) with_held_host: bool,
    /// The application starts to listen when this file exists.
    pub(crate) ready_file: Option<PathBuf>,
    /// An application that runs already, in place of the one that agimo starts.
    pub(crate) backend: Option<Backend>,
}

/// Where a proxy listens.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    /// HTTP/2 without TLS.
    pub(crate) http2: u16,
    pub(crate) https: u16,
}

/// What a proxy forwards to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    /// HTTP/2 without TLS; otherwise HTTP/1.1.
    pub(crate) is_http2: bool,
}

/// HAProxy: one thread, keep-alive on both sides, unrestricted reuse of idle connections, the same headers as agimo.
/// Unlike agimo, HAProxy does not route by host here, so that it runs as fast as possible.
pub(crate) fn haproxy(ports: Ports, backend: Backend, directory: &str) -> String {
    let Ports { http, http2, https } = ports;
    let Backend { address, is_http2 } = backend;
    let protocol = if is_http2 { " proto h2" } else { "" };
    format!(
        "global
    nbthread 1
    maxconn 9800
    tune.ssl.cachesize 20000
defaults
    mode http
    option forwardfor
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout tunnel 10m
    timeout http-keep-alive 10m
frontend clients
    bind 127.0.0.1:{http}
    bind 127.0.0.1:{http2} proto h2
    bind 127.0.0.1:{https} ssl crt {directory}/both.pem alpn h2,http/1.1
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    default_backend application
backend application
    http-reuse always
    server origin {address}{protocol}
"
    )
}

/// nginx: one worker, keep-alive on both sides, the same headers as agimo. Upgrades have a separate location, so that
/// other requests need no `map` for the Connection header.
pub(crate) fn nginx(ports: Ports, backend: Backend, directory: &str) -> String {
    let Ports { http, http2, https } = ports;
    let Backend { address, is_http2 } = backend;
    let prelude = nginx_prelude(directory);
    // It speaks HTTP/2 to applications for gRPC only.
    let (pass, set) = if is_http2 {
        ("grpc_pass grpc://application", "grpc_set_header")
    } else {
        ("proxy_pass http://application", "proxy_set_header")
    };
    format!(
        "{prelude}    proxy_read_timeout 10m;
    proxy_http_version 1.1;
    upstream application {{
        server {address};
        keepalive 128;
        keepalive_requests 10000000;
        keepalive_timeout 10m;
    }}
    server {{
        listen 127.0.0.1:{http} backlog=4096;
        listen 127.0.0.1:{http2} backlog=4096 http2;
        listen 127.0.0.1:{https} backlog=4096 ssl http2;
        ssl_certificate {directory}/certificate.pem;
        ssl_certificate_key {directory}/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:sessions:10m;
        client_max_body_size 0;
        proxy_request_buffering off;
        http2_max_requests 10000000;
        location / {{
            {pass};
            {set} Host $http_host;
            {set} Connection \"\";
            {set} X-Forwarded-For $proxy_add_x_forwarded_for;
            {set} X-Forwarded-Proto $scheme;
            {set} X-Forwarded-Host $http_host;
        }}
        location = /socket {{
            proxy_pass http://application;
            proxy_set_header Host $http_host;
            proxy_set_header Connection \"Upgrade\";
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
        }}
    }}
}}
"
    )
}

/// What every nginx begins with: one worker, its files in the directory, connections that are kept.
fn nginx_prelude(directory: &str) -> String {
    format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {directory}/pid;
events {{ worker_connections 19800; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_timeout 10m;
    keepalive_requests 10000000;
"
    )
}

/// The application of some rows: nginx with HTTP/1.1 and HTTP/2 without TLS. It answers gRPC calls, serves a file of 1 MiB, and
/// discards what is sent to it.
pub(crate) fn nginx_origin(ports: Ports, directory: &str) -> String {
    let (prelude, Ports { http, http2, .. }) = (nginx_prelude(directory), ports);
    format!(
        "{prelude}    client_max_body_size 0;
    client_body_buffer_size 2m;
    sendfile on;
    server {{
        listen 127.0.0.1:{http} backlog=4096;
        listen 127.0.0.1:{http2} backlog=4096 http2;
        http2_max_requests 10000000;
        root {directory};
        default_type application/grpc;
        location = /mebibyte {{ default_type text/plain; }}
        # Answers when it has received the whole body.
        location = /upload {{
            proxy_pass http://127.0.0.1:{http}/;
            proxy_pass_request_body off;
            proxy_set_header Content-Length \"\";
        }}
        location / {{ add_header grpc-status 0; return 200 \"hello, world!\"; }}
    }}
}}
"
    )
}

/// agimo: the service that gets the requests first, then the others.
pub(crate) fn agimo(
    environment: &Environment,
    setup: &AgimoSetup,
    directory: &str,
) -> io::Result<String> {
    let bench = bench_binary()?;
    let mut origin = vec![bench.clone(), "origin".to_owned()];
    // A child process inherits the core of the proxy; this moves it to the load core.
    if let Some(core) = environment.load_core() {
        origin.extend(strings(&["--core", &core.to_string()]));
    }
    let mut text =
        "timeout = '120s'\nmax_held = 5000\nmax_held_total = 10000\nsleep_after = '1h'\nmax_connections = 19000\n"
            .to_owned();
    let mut application = origin.clone();
    if let Some(file) = &setup.ready_file {
        application.extend(strings(&["--ready-at", &path_text(file)?]));
    }
    let port = match setup.backend {
        Some(backend) => {
            application = strings(&["sleep", "1000000"]);
            let protocol = if backend.is_http2 { "h2c" } else { "http1" };
            text = format!("protocol = '{protocol}'\n{text}");
            backend.address.port()
        }
        None => environment.free_port()?,
    };
    process_service(&mut text, HOST, &application, port, "60s");
    if setup.with_held_host {
        origin.extend(strings(&["--ready-at", "/nonexistent/never"]));
        process_service(&mut text, HELD_HOST, &origin, environment.free_port()?, "10m");
    }
    for number in 1..setup.services {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[[services]]\nhost = \"service-{number:05}.example\"\ntype = \"deployment\"\nnamespace = \"default\"\n\
             name = \"service-{number}\"\nservice_name = \"service-{number}\"\nservice_port = 80\n"
        );
    }
    let _ = write!(
        text,
        "[[tls]]\ncertificate = '{directory}/certificate.pem'\nkey = '{directory}/key.pem'\n"
    );
    Ok(text)
}

/// The path of this program, which also runs the origin.
pub(crate) fn bench_binary() -> io::Result<String> {
    path_text(&std::env::current_exe()?)
}

pub(crate) fn path_text(path: &Path) -> io::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| io::Error::other(format!("{} is not UTF-8", path.display())))
}

pub(crate) fn strings(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

fn process_service(
    text: &mut String,
    host: &str,
    command: &[String],
    port: u16,
    start_timeout: &str,
) {
    // For these plain strings, Debug formatting is also valid TOML.
    let _ = write!(
        text,
        "[[services]]\nhost = \"{host}\"\ntype = \"process\"\ncommand = {command:?}\nport = {port}\n\
         readiness = \"tcp\"\nstart_timeout = \"{start_timeout}\"\n"
    );
}

// === impl AgimoSetup ===

impl Default for AgimoSetup {
    fn default() -> Self {
        Self {
            services: 1,
            access_log: false,
            traces: None,
            with_held_host: false,
            ready_file: None,
            backend: None,
        }
    }
}
