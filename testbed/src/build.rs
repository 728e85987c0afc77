//! Builds everything that a cluster consists of, from pinned sources, into a cache outside the clone. It is the only
//! part of the test bed that needs the network, and builds nothing twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::files;
use cache::Cache;
use recipe::{RECIPES, Recipe, Serves};

pub(crate) mod cache;
mod go;
mod recipe;

/// How much is to be built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Extent {
    /// What every cluster needs.
    Cluster,
    /// KEDA, Prometheus and kube-state-metrics besides.
    WithAddOns,
}

/// Where each recipe's binaries are.
#[derive(Clone, Debug)]
pub struct Built {
    folders: BTreeMap<&'static str, PathBuf>,
}

// === impl Built ===

impl Built {
    /// The folder with what this recipe makes.
    pub(crate) fn folder(&self, recipe: &str) -> Result<&Path, String> {
        let folder =
            self.folders.get(recipe).ok_or_else(|| format!("there is no recipe `{recipe}`"))?;
        Ok(folder)
    }

    /// Makes `into` a folder of links by which the node calls its programs; plugins of the network in `cni` below it.
    pub(crate) fn link_programs(&self, into: &Path) -> Result<(), String> {
        files::create_folder(&into.join("cni"))?;
        for recipe in RECIPES {
            let Some(folder) = self.folders.get(recipe.name) else { continue };
            for program in recipe.programs {
                let called = into.join(program.called);
                if !called.exists() {
                    files::link(&folder.join(program.binary), &called)?;
                }
            }
        }
        Ok(())
    }
}

/// Builds what the cache does not hold yet, saying how far it is. A second process waits for the first.
pub fn build(extent: Extent) -> Result<Built, String> {
    let cache = Cache::open()?;
    let _lock = cache.lock("build")?;
    let compiler = go::version()?;
    let started = Instant::now();
    let mut folders = BTreeMap::new();
    let recipes: Vec<&Recipe> = RECIPES
        .iter()
        .filter(|recipe| extent == Extent::WithAddOns || recipe.serves == Serves::EveryCluster)
        .collect();
    for (index, recipe) in recipes.iter().enumerate() {
        let entry = cache.entry(recipe.name, &recipe.pins(&compiler)?);
        if !entry.is_dir() {
            let place = format!("{}/{}", index + 1, recipes.len());
            println!("test bed {place}: building {} ({})", recipe.name, recipe.takes);
            let part_started = Instant::now();
            cache.fill(&entry, |folder| make(recipe, folder, &cache.log(recipe.name)))?;
            println!(
                "test bed {place}: {} built in {:.0} s (at {:.0} s)",
                recipe.name,
                part_started.elapsed().as_secs_f64(),
                started.elapsed().as_secs_f64()
            );
        }
        cache.used(&entry)?;
        folders.insert(recipe.name, entry);
    }
    Ok(Built { folders })
}

fn make(recipe: &Recipe, folder: &Path, log: &Path) -> Result<(), String> {
    go::build(recipe, folder, log)?;
    for program in recipe.programs {
        if !folder.join(program.binary).is_file() {
            return Err(format!("go built {} without `{}`", recipe.name, program.binary));
        }
    }
    if let Some(module) = recipe.manifests_of {
        let manifests = folder.join("manifests");
        files::create_folder(&manifests)?;
        files::copy_folder(
            &go::module_folder(recipe, module)?.join("config"),
            &manifests.join("config"),
        )?;
    }
    Ok(())
}
