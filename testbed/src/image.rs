//! Container images. An image of a test bed program contains one static binary and empty folders for mounts, and is
//! written directly as an OCI archive; agimo's image is built from its Dockerfile.

use std::path::{Path, PathBuf};

use crate::build::cache::{Cache, hash};
use crate::build::{BuiltBinaries, RequiredBy};
use crate::files;

mod dockerfile;
mod oci;
mod tar;

pub use dockerfile::build_in_own_namespace;

/// An unprivileged user and group; every image but `pause` uses it.
const USER: &str = "65532:65532";
/// Part of the cache key of an image; to be changed when `oci.rs` writes images differently.
const WRITER_VERSION: &[u8] = b"1";

/// An image to write.
#[derive(Clone, Debug)]
struct Image {
    reference: &'static str,
    user: &'static str,
    /// The path in the image, also its entry point.
    entrypoint: &'static str,
    binary: PathBuf,
}

/// An image of a binary that a recipe builds.
struct RecipeImage {
    name: &'static str,
    reference: &'static str,
    recipe: &'static str,
    binary: &'static str,
    entrypoint: &'static str,
    user: &'static str,
    required_by: RequiredBy,
}

pub(crate) const PAUSE: &str = "agimo.test/pause:1";

const AGIMO: &str = "agimo.test/agimo:dev";
/// The image's two names; the second is for tests that roll out a new version.
pub(crate) const AGIMO_TAGS: [&str; 2] = [AGIMO, "agimo.test/agimo:next"];

const IMAGES: &[RecipeImage] = &[
    RecipeImage {
        name: "pause",
        reference: PAUSE,
        recipe: "pause",
        binary: "pause",
        entrypoint: "/pause",
        user: "",
        required_by: RequiredBy::EveryCluster,
    },
    RecipeImage {
        name: "sample",
        reference: "agimo.test/sample:1",
        recipe: "sample",
        binary: "sample",
        entrypoint: "/sample",
        user: USER,
        required_by: RequiredBy::EveryCluster,
    },
    RecipeImage {
        name: "keda-operator",
        reference: "agimo.test/keda-operator:2.21.0",
        recipe: "keda",
        binary: "operator",
        entrypoint: "/keda",
        user: USER,
        required_by: RequiredBy::AddOns,
    },
    RecipeImage {
        name: "keda-adapter",
        reference: "agimo.test/keda-adapter:2.21.0",
        recipe: "keda",
        binary: "adapter",
        entrypoint: "/keda-adapter",
        user: USER,
        required_by: RequiredBy::AddOns,
    },
    RecipeImage {
        name: "kube-state-metrics",
        reference: "agimo.test/kube-state-metrics:2.18.0",
        recipe: "kube-state-metrics",
        binary: "kube-state-metrics",
        entrypoint: "/kube-state-metrics",
        user: USER,
        required_by: RequiredBy::AddOns,
    },
    RecipeImage {
        name: "prometheus-adapter",
        reference: "agimo.test/prometheus-adapter:0.12.0",
        recipe: "prometheus-adapter",
        binary: "adapter",
        entrypoint: "/prometheus-adapter",
        user: USER,
        required_by: RequiredBy::AddOns,
    },
    RecipeImage {
        name: "prometheus",
        reference: "agimo.test/prometheus:3.14.0",
        recipe: "prometheus",
        binary: "prometheus",
        entrypoint: "/prometheus",
        user: USER,
        required_by: RequiredBy::AddOns,
    },
];

/// Creates links to the image archives in `folder`, after writing the archives that the cache does not hold.
pub(crate) fn link_images(
    binaries: &BuiltBinaries,
    required_by: RequiredBy,
    folder: &Path,
) -> Result<(), String> {
    let cache = Cache::open()?;
    let _lock = cache.lock("images")?;
    for image in IMAGES.iter().filter(|image| image.required_by == required_by) {
        let source = binaries.folder(image.recipe)?;
        let source_key = source.file_name().unwrap_or_default().as_encoded_bytes();
        let description = format!("{} {} {}", image.reference, image.entrypoint, image.user);
        let key = hash([
            ("source", source_key),
            ("image", description.as_bytes()),
            ("writer", WRITER_VERSION),
        ]);
        let entry = cache.entry(&format!("image-{}", image.name), &key);
        if !entry.is_dir() {
            let content = Image {
                reference: image.reference,
                user: image.user,
                entrypoint: image.entrypoint,
                binary: source.join(image.binary),
            };
            cache.create_entry(&entry, |folder| oci::write(&content, &folder.join(ARCHIVE)))?;
        }
        cache.mark_used(&entry)?;
        files::link(&entry.join(ARCHIVE), &folder.join(format!("{}.tar", image.name)))?;
    }
    Ok(())
}

/// Writes the image of this agimo binary to `folder`.
pub(crate) fn build_agimo_image(binary: &Path, folder: &Path) -> Result<(), String> {
    dockerfile::build(binary, AGIMO, &folder.join("agimo.tar"))
}

/// The name of the image archive in its cache entry.
const ARCHIVE: &str = "image.tar";
