//! Writes an image as an OCI image layout (image-spec 1.1) in a tar archive, which `ctr images import` and `buildah pull`
//! read. It has one uncompressed layer, because it never leaves the machine.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Image;
use super::tar::Archive;
use crate::files;

/// The mount points that programs and container runtimes expect.
const FOLDERS: [&str; 5] = ["dev", "etc", "proc", "sys", "tmp"];

/// Writes the archive atomically, by rename.
pub(super) fn write(image: &Image, to: &Path) -> Result<(), String> {
    let binary = files::read_bytes(&image.binary)?;
    let unfinished = to.with_extension("unfinished");
    let file = File::create(&unfinished).map_err(files::with_path(&unfinished))?;
    archive(image, &binary, BufWriter::new(file)).map_err(files::with_path(&unfinished))?;
    std::fs::rename(&unfinished, to).map_err(files::with_path(to))
}

fn archive<W: std::io::Write>(image: &Image, binary: &[u8], to: W) -> std::io::Result<W> {
    let layer = layer(image.entrypoint, binary)?;
    let config = config(image, &digest(&layer));
    let manifest = manifest(&config, &layer);
    let index = index(image, &manifest);
    let mut archive = Archive::new(to);
    archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.file("index.json", 0o644, index.as_bytes())?;
    for blob in [manifest.as_bytes(), config.as_bytes(), &layer] {
        let path = format!("blobs/{}", digest(blob).replace(':', "/"));
        archive.file(&path, 0o644, blob)?;
    }
    archive.end()
}

fn layer(entrypoint: &str, binary: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut layer = Archive::new(Vec::with_capacity(binary.len() + 16 * 1024));
    for folder in FOLDERS {
        layer.folder(folder, if folder == "tmp" { 0o1777 } else { 0o755 })?;
    }
    layer.file(entrypoint.trim_start_matches('/'), 0o755, binary)?;
    layer.end()
}

fn config(image: &Image, layer: &str) -> String {
    let Image { user, entrypoint, .. } = image;
    format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"User":"{user}","Entrypoint":["{entrypoint}"],"Env":["PATH=/"],"WorkingDir":"/"}},"rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#,
        architecture()
    )
}

fn manifest(config: &str, layer: &[u8]) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
        descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes(), ""),
        descriptor("application/vnd.oci.image.layer.v1.tar", layer, ""),
    )
}

fn index(image: &Image, manifest: &str) -> String {
    let reference = image.reference;
    let tag = reference.rsplit(':').next().unwrap_or(reference);
    let annotations = format!(
        r#","annotations":{{"io.containerd.image.name":"{reference}","org.opencontainers.image.ref.name":"{tag}"}}"#
    );
    let manifest =
        descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes(), &annotations);
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{manifest}]}}"#
    )
}

fn descriptor(media_type: &str, blob: &[u8], more: &str) -> String {
    format!(
        r#"{{"mediaType":"{media_type}","digest":"{}","size":{}{more}}}"#,
        digest(blob),
        blob.len()
    )
}

/// A digest in the format of image-spec: `sha256:` and 64 hexadecimal digits.
fn digest(blob: &[u8]) -> String {
    let digits: String = Sha256::digest(blob).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// The machine's architecture in the notation of Go, which image-spec uses.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn digests_match_the_test_vector_of_fips_180() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            digest(b"abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn every_blob_is_stored_under_its_digest() {
        let image = Image {
            reference: "agimo.test/x:1",
            user: "65532:65532",
            entrypoint: "/x",
            binary: PathBuf::new(),
        };
        let bytes = archive(&image, b"binary", Vec::new()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let layer = digest(&layer("/x", b"binary").unwrap());
        let config = config(&image, &layer);
        let manifest = manifest(&config, &super::layer("/x", b"binary").unwrap());
        for digest in [&layer, &digest(config.as_bytes()), &digest(manifest.as_bytes())] {
            assert!(text.contains(&format!("blobs/{}", digest.replace(':', "/"))), "{digest}");
            assert!(text.matches(digest.as_str()).count() > 0, "{digest}");
        }
        assert!(text.contains(r#""io.containerd.image.name":"agimo.test/x:1""#));
        assert_eq!(
            bytes,
            archive(&image, b"binary", Vec::new()).unwrap(),
            "the archive is reproducible"
        );
    }
}
