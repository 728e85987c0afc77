//! Keys and certificates that the API server cannot make for itself. They are good for this cluster and die with it.

use std::path::Path;
use std::process::Command;

use crate::files;
use crate::folder::Folder;

const CURVE: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// Signs the tokens of service accounts.
pub(super) const SERVICE_ACCOUNTS: &str = "service-accounts.key";
/// The authority whose certificates extension API servers, such as that of KEDA's metrics, accept from the API server.
pub(super) const FRONT_PROXY_AUTHORITY: &str = "front-proxy-ca";
/// The certificate by which the API server shows itself to them.
pub(super) const FRONT_PROXY: &str = "front-proxy";

pub(super) fn write(folder: &Folder) -> Result<(), String> {
    let into = folder.state("certificates");
    files::create_folder(&into)?;
    let mut key = openssl(&into);
    // Not `genpkey`: the API server reads an elliptic key only in the older form (RFC 5915).
    key.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", SERVICE_ACCOUNTS]);
    subprocess::capture(&mut key)?;

    let (authority_key, authority) =
        (format!("{FRONT_PROXY_AUTHORITY}.key"), format!("{FRONT_PROXY_AUTHORITY}.crt"));
    let mut request = openssl(&into);
    request.args(["req", "-x509", "-nodes", "-days", "30"]).args(CURVE);
    request.args(["-subj", "/CN=front-proxy-ca", "-keyout", &authority_key, "-out", &authority]);
    subprocess::capture(&mut request)?;

    let mut request = openssl(&into);
    request.args(["req", "-x509", "-nodes", "-days", "30"]).args(CURVE);
    request.args(["-CA", &authority, "-CAkey", &authority_key]);
    request.args(["-subj", "/CN=front-proxy-client", "-addext", "extendedKeyUsage=clientAuth"]);
    request.args(["-addext", "basicConstraints=CA:FALSE"]);
    request.arg("-keyout").arg(format!("{FRONT_PROXY}.key"));
    request.arg("-out").arg(format!("{FRONT_PROXY}.crt"));
    subprocess::capture(&mut request)?;
    Ok(())
}

fn openssl(folder: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(folder);
    command
}
