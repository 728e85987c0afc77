//! Container images of one static binary each, written as OCI archives without a registry or a builder; agimo's own
//! comes from its Dockerfile. An image holds the binary, empty folders to mount on, and nothing else.

use std::path::{Path, PathBuf};

use crate::build::Built;
use crate::build::cache::{Cache, hash};
use crate::files;

mod dockerfile;
mod oci;
mod tar;

pub use dockerfile::build_alone;

/// Not root; the user of every image but the one that holds pods open.
const USER: &str = "65532:65532";
/// Part of the hash of a cached image: another writer makes another image.
const WRITER: &[u8] = b"1";

/// An image and what is in it.
#[derive(Clone, Debug)]
struct Image {
    reference: &'static str,
    user: &'static str,
    /// The path in the image, also its entry point.
    entrypoint: &'static str,
    binary: PathBuf,
}

/// When a cluster gets an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Use {
    Always,
    AddOns,
}

/// An image of something that the test bed builds.
struct OfRecipe {
    name: &'static str,
    reference: &'static str,
    recipe: &'static str,
    binary: &'static str,
    entrypoint: &'static str,
    user: &'static str,
    when: Use,
}

pub(crate) const PAUSE: &str = "agimo.test/pause:1";

const AGIMO: &str = "agimo.test/agimo:dev";
/// Another name for the same image, for tests that roll out a new version.
pub(crate) const NEXT_AGIMO: [&str; 2] = [AGIMO, "agimo.test/agimo:next"];

const IMAGES: &[OfRecipe] = &[
    OfRecipe {
        name: "pause",
        reference: PAUSE,
        recipe: "pause",
        binary: "pause",
        entrypoint: "/pause",
        user: "",
        when: Use::Always,
    },
    OfRecipe {
        name: "sample",
        reference: "agimo.test/sample:1",
        recipe: "sample",
        binary: "sample",
        entrypoint: "/sample",
        user: USER,
        when: Use::Always,
    },
    OfRecipe {
        name: "keda-operator",
        reference: "agimo.test/keda-operator:2.21.0",
        recipe: "keda",
        binary: "operator",
        entrypoint: "/keda",
        user: USER,
        when: Use::AddOns,
    },
    OfRecipe {
        name: "keda-adapter",
        reference: "agimo.test/keda-adapter:2.21.0",
        recipe: "keda",
        binary: "adapter",
        entrypoint: "/keda-adapter",
        user: USER,
        when: Use::AddOns,
    },
    OfRecipe {
        name: "kube-state-metrics",
        reference: "agimo.test/kube-state-metrics:2.18.0",
        recipe: "kube-state-metrics",
        binary: "kube-state-metrics",
        entrypoint: "/kube-state-metrics",
        user: USER,
        when: Use::AddOns,
    },
    OfRecipe {
        name: "prometheus",
        reference: "agimo.test/prometheus:3.14.0",
        recipe: "prometheus",
        binary: "prometheus",
        entrypoint: "/prometheus",
        user: USER,
        when: Use::AddOns,
    },
];

/// Links the archives of everything that the test bed builds into `folder`, writing what the cache does not hold.
pub(crate) fn provide(built: &Built, when: Use, folder: &Path) -> Result<(), String> {
    let cache = Cache::open()?;
    let _lock = cache.lock("images")?;
    for image in IMAGES.iter().filter(|image| image.when == when) {
        let source = built.folder(image.recipe)?;
        let pins = source.file_name().unwrap_or_default().as_encoded_bytes();
        let described = format!("{} {} {}", image.reference, image.entrypoint, image.user);
        let pins = hash([("source", pins), ("image", described.as_bytes()), ("writer", WRITER)]);
        let entry = cache.entry(&format!("image-{}", image.name), &pins);
        if !entry.is_dir() {
            let written = Image {
                reference: image.reference,
                user: image.user,
                entrypoint: image.entrypoint,
                binary: source.join(image.binary),
            };
            cache.fill(&entry, |folder| oci::write(&written, &folder.join(ARCHIVE)))?;
        }
        cache.used(&entry)?;
        files::link(&entry.join(ARCHIVE), &folder.join(format!("{}.tar", image.name)))?;
    }
    Ok(())
}

/// Writes the image of an agimo that was just built into `folder`.
pub(crate) fn provide_agimo(binary: &Path, folder: &Path) -> Result<(), String> {
    dockerfile::build(binary, AGIMO, &folder.join("agimo.tar"))
}

/// An image's file in its cache entry.
const ARCHIVE: &str = "image.tar";
