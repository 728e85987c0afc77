//! `cargo xtask site`: builds the documentation as a site with mdBook, and checks that every link in it leads somewhere. The pages are
//! the Markdown files of the repository as they are; `docs/SUMMARY.md` has their order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace;

const MDBOOK_VERSION: &str = "0.5.4";
/// What pages link to, besides `docs/`.
const BESIDES_DOCS: [&str; 10] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "bench/RESULTS.md",
    "charts/agimo/values.yaml",
    "src/proxy/serve_request.rs",
];

pub(crate) fn site(arguments: &[String]) -> Result<(), String> {
    if let Some(argument) = arguments.first() {
        return Err(format!("site does not accept `{argument}`"));
    }
    let pages = build()?;
    println!("built {pages} pages: {}", folder().join("html/index.html").display());
    Ok(())
}

/// Builds the site, and returns the number of its pages.
pub(crate) fn build() -> Result<usize, String> {
    let mdbook = install()?;
    let (folder, root) = (folder(), workspace::root());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(in_folder(&folder))?;
    }
    let source = folder.join("src");
    copy(&root.join("docs"), &source.join("docs"))?;
    for file in BESIDES_DOCS {
        copy(&root.join(file), &source.join(file))?;
    }
    copy(&root.join("docs/book.toml"), &folder.join("book.toml"))?;
    let summary = root.join("docs/SUMMARY.md");
    let text = fs::read_to_string(&summary).map_err(in_folder(&summary))?;
    let summary = source.join("SUMMARY.md");
    fs::write(&summary, summary_of_root(&text)).map_err(in_folder(&summary))?;
    let mut command = workspace::program(&mdbook.to_string_lossy());
    subprocess::run(command.args(["build"]).arg(&folder))?;
    check(&folder.join("html"))
}

fn folder() -> PathBuf {
    workspace::target_folder().join("site")
}

fn install() -> Result<PathBuf, String> {
    workspace::install_tool(&format!("mdbook-{MDBOOK_VERSION}"), "bin/mdbook", |folder| {
        let package = format!("mdbook@{MDBOOK_VERSION}");
        let mut command =
            workspace::cargo(&["install", "--quiet", "--locked", "--debug", &package]);
        command.args(["--no-default-features", "--features", "search", "--root"]).arg(folder);
        command.env("CARGO_PROFILE_DEV_DEBUG", "0").env_remove("CARGO_TARGET_DIR");
        command
    })
}

/// The table of contents, whose links are relative to `docs/`, for the root of the repository.
fn summary_of_root(text: &str) -> String {
    text.replace("](", "](docs/").replace("](docs/../", "](")
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if from.is_dir() {
        for entry in fs::read_dir(from).map_err(in_folder(from))? {
            let entry = entry.map_err(in_folder(from))?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(in_folder(parent))?;
    fs::copy(from, to).map_err(in_folder(from))?;
    Ok(())
}

fn in_folder(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

/// Every link of every page leads to a file of the site, and to a heading where it names one. Returns the number of pages.
fn check(html: &Path) -> Result<usize, String> {
    let mut pages = BTreeMap::new();
    read_pages(html, &mut pages)?;
    // The page for printing has the links of all others, relative to them.
    pages.retain(|page, _| !page.ends_with("print.html") && !page.ends_with("404.html"));
    let anchors: BTreeMap<&PathBuf, BTreeSet<String>> =
        pages.iter().map(|(page, text)| (page, values(text, "id").collect())).collect();
    let mut problems = Vec::new();
    for (page, text) in &pages {
        for link in values(text, "href") {
            if link.contains("://") || link.starts_with("mailto:") || link.starts_with("data:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let parent = page.parent().unwrap_or(html);
            let target = if file.is_empty() { page.clone() } else { normal(&parent.join(file)) };
            let has_anchor =
                |anchors: &BTreeSet<String>| anchor.is_empty() || anchors.contains(anchor);
            if !target.exists() || anchors.get(&target).is_some_and(|anchors| !has_anchor(anchors))
            {
                problems.push(format!("{}: {link} leads nowhere", page.display()));
            }
        }
    }
    if problems.is_empty() { Ok(pages.len()) } else { Err(problems.join("\n")) }
}

fn read_pages(folder: &Path, pages: &mut BTreeMap<PathBuf, String>) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(in_folder(folder))? {
        let path = entry.map_err(in_folder(folder))?.path();
        if path.is_dir() {
            read_pages(&path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "html") {
            let text = fs::read_to_string(&path).map_err(in_folder(&path))?;
            pages.insert(path, text);
        }
    }
    Ok(())
}

/// The values of an attribute in the HTML that mdBook writes, which quotes all of them.
fn values<'a>(text: &'a str, attribute: &str) -> impl Iterator<Item = String> + 'a {
    let start = format!(" {attribute}=\"");
    let parts: Vec<&str> = text.split(start.as_str()).skip(1).collect();
    parts.into_iter().filter_map(|part| Some(part.split('"').next()?.replace("&amp;", "&")))
}

/// Without `..`, which `Path::exists` would follow through symlinks.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                normal.pop();
            }
            std::path::Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_contents_is_read_from_the_root() {
        let text = "[agimo](../README.md)\n- [Scalers](scalers.md)\n- [GPU](howto/gpu.md)";
        let expected =
            "[agimo](README.md)\n- [Scalers](docs/scalers.md)\n- [GPU](docs/howto/gpu.md)";
        assert_eq!(summary_of_root(text), expected);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let folder = std::env::temp_dir().join(format!("agimo-site-{}", std::process::id()));
        fs::create_dir_all(folder.join("docs")).unwrap();
        let page = "<a href=\"../other.html#here\"></a><a href=\"gone.html\"></a><a href=\"../other.html#gone\"></a>";
        fs::write(folder.join("docs/page.html"), page).unwrap();
        fs::write(folder.join("other.html"), "<h1 id=\"here\"></h1>").unwrap();
        let problems = check(&folder).unwrap_err();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(problems.lines().count(), 2, "{problems}");
        assert!(problems.contains("gone.html") && problems.contains("#gone"), "{problems}");
    }
}
