//! The keys and certificates that the API server does not create itself. They are valid for one cluster and removed with
//! it.

use std::path::Path;
use std::process::Command;

use crate::cluster_folder::ClusterFolder;
use crate::files;

const CURVE: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// The key that signs service account tokens.
pub(super) const SERVICE_ACCOUNTS: &str = "service-accounts.key";
/// The certificate authority by which extension API servers, such as KEDA's metrics server, authenticate the API server
/// (Kubernetes, "Configure the Aggregation Layer").
pub(super) const FRONT_PROXY_AUTHORITY: &str = "front-proxy-ca";
/// The client certificate that the API server presents to them.
pub(crate) const FRONT_PROXY: &str = "front-proxy";

pub(super) fn write(folder: &ClusterFolder) -> Result<(), String> {
    let target = folder.state("certificates");
    files::create_folder(&target)?;
    let mut key = openssl(&target);
    // Not `genpkey`: the API server reads elliptic curve keys only in SEC 1 form (RFC 5915).
    key.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", SERVICE_ACCOUNTS]);
    subprocess::capture(&mut key)?;

    let (authority_key, authority) =
        (format!("{FRONT_PROXY_AUTHORITY}.key"), format!("{FRONT_PROXY_AUTHORITY}.crt"));
    let mut request = openssl(&target);
    request.args(["req", "-x509", "-nodes", "-days", "30"]).args(CURVE);
    request.args(["-subj", "/CN=front-proxy-ca", "-keyout", &authority_key, "-out", &authority]);
    subprocess::capture(&mut request)?;

    let mut request = openssl(&target);
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
