//! Builds every program of a cluster from pinned sources into a cache outside the clone. Only this part of the test bed
//! uses the network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::files;
use cache::Cache;
use recipe::{RECIPES, Recipe};

pub(crate) mod cache;
mod go;
mod recipe;

/// How much is built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BuildScope {
    /// The programs and images that every cluster needs.
    Cluster,
    /// Those and KEDA, Prometheus, prometheus-adapter and kube-state-metrics.
    ClusterAndAddOns,
}

/// Who needs a program or an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RequiredBy {
    EveryCluster,
    AddOns,
}

/// The cache folders with the binaries of each recipe.
#[derive(Clone, Debug)]
pub struct BuiltBinaries {
    folders: BTreeMap<&'static str, PathBuf>,
}

// === impl BuiltBinaries ===

impl BuiltBinaries {
    /// The folder with the binaries of this recipe.
    pub(crate) fn folder(&self, recipe: &str) -> Result<&Path, String> {
        let folder =
            self.folders.get(recipe).ok_or_else(|| format!("there is no recipe `{recipe}`"))?;
        Ok(folder)
    }

    /// Fills `target` with links to the node's programs, under the names by which the node starts them. The CNI plugins
    /// are in `cni` below it.
    pub(crate) fn link_programs(&self, target: &Path) -> Result<(), String> {
        files::create_folder(&target.join("cni"))?;
        for recipe in RECIPES {
            let Some(folder) = self.folders.get(recipe.name) else { continue };
            for program in recipe.programs {
                let link = target.join(program.link_name);
                if !link.exists() {
                    files::link(&folder.join(program.binary), &link)?;
                }
            }
        }
        Ok(())
    }
}

/// Builds what the cache does not hold and prints the progress. Only one process builds at a time; others wait for it.
pub fn build(scope: BuildScope) -> Result<BuiltBinaries, String> {
    let cache = Cache::open()?;
    let _lock = cache.lock("build")?;
    let compiler = go::version()?;
    let started = Instant::now();
    let mut folders = BTreeMap::new();
    let recipes: Vec<&Recipe> = RECIPES
        .iter()
        .filter(|recipe| {
            scope == BuildScope::ClusterAndAddOns || recipe.required_by == RequiredBy::EveryCluster
        })
        .collect();
    for (index, recipe) in recipes.iter().enumerate() {
        let entry = cache.entry(recipe.name, &recipe.cache_key(&compiler)?);
        if !entry.is_dir() {
            let position = format!("{}/{}", index + 1, recipes.len());
            println!("test bed {position}: building {} ({})", recipe.name, recipe.usual_duration);
            let recipe_started = Instant::now();
            cache.create_entry(&entry, |folder| {
                build_recipe(recipe, folder, &cache.log(recipe.name))
            })?;
            println!(
                "test bed {position}: {} built in {:.0} s (at {:.0} s)",
                recipe.name,
                recipe_started.elapsed().as_secs_f64(),
                started.elapsed().as_secs_f64()
            );
        }
        cache.mark_used(&entry)?;
        folders.insert(recipe.name, entry);
    }
    Ok(BuiltBinaries { folders })
}

fn build_recipe(recipe: &Recipe, folder: &Path, log: &Path) -> Result<(), String> {
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
