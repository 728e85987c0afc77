//! A `kubectl proxy`, so that a change costs one request and not the start of a program.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

/// The running proxy; dropping it stops it.
pub(crate) struct ApiProxy {
    process: Child,
    address: SocketAddr,
}

// === impl ApiProxy ===

impl ApiProxy {
    pub(crate) fn start() -> io::Result<Self> {
        let mut process =
            Command::new("kubectl").args(["proxy", "--port=0"]).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        // Starting to serve on 127.0.0.1:12345
        let address = line.trim().rsplit(' ').next().unwrap_or_default();
        let address =
            address.parse().map_err(|_| io::Error::other(format!("kubectl proxy: {line}")))?;
        Ok(Self { process, address })
    }

    /// Merges `body` into the object at this path (RFC 7396), and returns when the API server has answered.
    pub(crate) fn patch(&self, path: &str, body: &str) -> io::Result<()> {
        let mut client = TcpStream::connect(self.address)?;
        client.write_all(
            format!(
                "PATCH {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                 Content-Type: application/merge-patch+json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )?;
        let mut status_line = [0; 12];
        client.read_exact(&mut status_line)?;
        if &status_line != b"HTTP/1.1 200" {
            let mut rest = String::new();
            client.read_to_string(&mut rest)?;
            let line = String::from_utf8_lossy(&status_line).into_owned();
            return Err(io::Error::other(format!("{path} was not changed: {line}{rest}")));
        }
        Ok(())
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
