//! The rules of the house that no compiler checks: layers, circles, length of files, random inputs.

#![allow(clippy::unwrap_used)] // a test that cannot read its own repository fails

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = vec![];
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "{folder} has no Rust files: was it moved?");
    files
}

/// The path of a module below its crate: `["steps", "deploying"]`; empty for `lib.rs`.
type Module = Vec<String>;

/// Which modules of a crate use which.
#[derive(Default)]
struct Graph {
    edges: BTreeMap<Module, BTreeSet<Module>>,
}

impl Graph {
    /// Reads the `use` items and paths of all files in a folder, without modules for tests.
    fn of(folder: &str) -> Self {
        let base = root().join(folder);
        let sources: BTreeMap<Module, String> = rust_files(folder)
            .into_iter()
            .filter_map(|file| Some((module(&base, &file)?, fs::read_to_string(&file).unwrap())))
            .collect();
        Self::parse(&sources)
    }

    fn parse(sources: &BTreeMap<Module, String>) -> Self {
        let mut graph = Self::default();
        for (module, text) in sources {
            let mut paths = Paths::default();
            paths.visit_file(&syn::parse_file(text).unwrap());
            let used = paths.found.iter().filter_map(|path| resolve(sources, module, path));
            graph.edges.insert(module.clone(), used.filter(|used| used != module).collect());
        }
        graph
    }

    /// The same graph, with each module replaced by `name`; `None` drops the module.
    fn renamed(&self, name: impl Fn(&Module) -> Option<Module>) -> Self {
        let mut renamed = Self::default();
        for (from, used) in &self.edges {
            let Some(from) = name(from) else { continue };
            let used = used.iter().filter_map(&name).filter(|to| *to != from);
            renamed.edges.entry(from.clone()).or_default().extend(used);
        }
        renamed
    }

    /// A circle of modules, if there is one.
    fn circle(&self) -> Option<Vec<Module>> {
        let mut left = self.edges.clone();
        loop {
            let free: Vec<_> =
                left.iter().filter(|(_, used)| !used.iter().any(|to| left.contains_key(to))).collect();
            let Some(free) = free.first().map(|(module, _)| (*module).clone()) else { break };
            left.remove(&free);
        }
        // Each module that is left uses another that is left: following them leads into a circle.
        let mut at = left.keys().next()?;
        let mut path = vec![];
        while !path.contains(at) {
            path.push(at.clone());
            at = left.get(at)?.iter().find(|to| left.contains_key(*to))?;
        }
        let start = path.iter().position(|module| module == at)?;
        Some(path.split_off(start))
    }
}

/// The module of a file; `None` for a file that holds tests only.
fn module(base: &Path, file: &Path) -> Option<Module> {
    let path = file.strip_prefix(base).unwrap().with_extension("");
    let mut names: Module = path.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if names.iter().any(|name| name == "tests" || name == "bin" || name == "main") {
        return None;
    }
    if names.last().is_some_and(|name| name == "mod" || name == "lib") {
        names.pop();
    }
    Some(names)
}

/// The module that a path in `module` leads to.
fn resolve(sources: &BTreeMap<Module, String>, module: &Module, path: &[String]) -> Option<Module> {
    let mut at = match path.first()?.as_str() {
        "crate" => vec![],
        "self" | "super" => module.clone(),
        child => {
            let mut inner = module.clone();
            inner.push(child.to_owned());
            return sources.contains_key(&inner).then(|| deepest(sources, module.clone(), path));
        }
    };
    let mut rest = path;
    while let Some((word, after)) = rest.split_first().filter(|(word, _)| is_keyword(word)) {
        if word == "super" {
            at.pop();
        }
        rest = after;
    }
    Some(deepest(sources, at, rest))
}

fn is_keyword(word: &str) -> bool {
    matches!(word, "crate" | "self" | "super")
}

fn deepest(sources: &BTreeMap<Module, String>, mut at: Module, path: &[String]) -> Module {
    for name in path {
        at.push(name.clone());
        if !sources.contains_key(&at) {
            at.pop();
            break;
        }
    }
    at
}

/// All paths in a file, outside modules and items for tests.
#[derive(Default)]
struct Paths {
    found: Vec<Vec<String>>,
}

impl Paths {
    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.found.push(with(&name.ident)),
            syn::UseTree::Rename(name) => self.found.push(with(&name.ident)),
            syn::UseTree::Glob(_) => self.found.push(before.to_vec()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(before, item)),
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let list = attribute.meta.require_list();
        attribute.path().is_ident("cfg") && list.is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // A public re-export gives a child module a second name. It uses nothing of it.
        if !is_for_tests(&item.attrs) && matches!(item.vis, syn::Visibility::Inherited) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.found.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

/// Fails if the modules inside one parent use each other in a circle.
fn no_circles_between_siblings(folder: &str, graph: &Graph) {
    let parents: BTreeSet<Module> =
        graph.edges.keys().filter_map(|module| Some(module.split_last()?.1.to_vec())).collect();
    for parent in parents {
        let siblings = graph.renamed(|module| {
            let inside = module.starts_with(&parent) && module.len() > parent.len();
            inside.then(|| module.iter().take(parent.len() + 1).cloned().collect())
        });
        let circle = siblings.circle();
        assert!(circle.is_none(), "{folder}: these modules use each other in a circle: {circle:?}");
    }
}

#[test]
fn modules_use_each_other_in_no_circle() {
    for folder in ["src", "crates/api/src", "crates/rollout/src", "hack/testbed/src"] {
        no_circles_between_siblings(folder, &Graph::of(folder));
    }
}

/// In the core, a module does not even use the module that declares it.
#[test]
fn files_of_the_core_use_each_other_in_no_circle() {
    let circle = Graph::of("crates/rollout/src").circle();
    assert!(circle.is_none(), "crates/rollout: these files use each other in a circle: {circle:?}");
}

#[test]
fn layers_use_only_layers_below() {
    let graph = Graph::of("src").renamed(|module| Some(module.iter().take(1).cloned().collect()));
    let rules: [(&str, &[&str]); 4] = [
        ("resources", &[]),
        ("observe", &["namespaced_name", "resources", "version"]),
        ("plugin", &["version"]),
        (
            "controller",
            &["client", "clock", "leader", "metrics", "namespaced_name", "observe", "resources", "version"],
        ),
    ];
    for (layer, allowed) in rules {
        let used = graph.edges.get(&vec![layer.to_owned()]).unwrap();
        for module in used {
            let name = module.join("::");
            assert!(allowed.contains(&name.as_str()), "src/{layer} uses {name}, which is no layer below it");
        }
    }
}

/// Decisions, facts and renderings depend on their input only (design D19).
#[test]
fn pure_folders_use_no_client_no_runtime_and_no_clock() {
    let forbidden = ["tokio", "hyper", "Client", "Api", "Instant", "SystemTime", "fs", "net", "env"];
    for folder in ["src/observe", "src/resources", "crates/api/src", "crates/rollout/src"] {
        for file in rust_files(folder) {
            let mut paths = Paths::default();
            paths.visit_file(&syn::parse_file(&fs::read_to_string(&file).unwrap()).unwrap());
            let outside = |path: &&Vec<String>| path.first().is_some_and(|first| !is_keyword(first));
            for path in paths.found.iter().filter(outside) {
                let bad = path.iter().find(|word| forbidden.contains(&word.as_str()));
                assert!(bad.is_none(), "{} uses {}", file.display(), path.join("::"));
            }
        }
    }
}

/// The compiler keeps the core pure, as long as its manifest names no other crate.
#[test]
fn the_core_depends_on_three_crates() {
    let manifest = fs::read_to_string(root().join("crates/rollout/Cargo.toml")).unwrap();
    let section =
        manifest.split("[dependencies]").nth(1).unwrap().split("[dev-dependencies]").next().unwrap();
    let names: Vec<&str> = section.lines().filter_map(|line| line.split(['.', ' ']).next()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    assert_eq!(names, ["api", "jiff", "k8s-openapi"]);
}

#[test]
fn no_file_is_longer_than_500_lines() {
    for folder in ["src", "crates", "tests", "examples", "hack"] {
        for file in rust_files(folder) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 500, "{} has {lines} lines: split it by idea", file.display());
        }
    }
}

/// `make fuzz` runs the tests of these modules. A module that it leaves out tests the same inputs forever.
#[test]
fn every_test_with_random_inputs_is_fuzzed() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let fuzzed = makefile.lines().find_map(|line| line.strip_prefix("FUZZED = ")).unwrap();
    let random = ["src", "crates"]
        .into_iter()
        .flat_map(rust_files)
        .filter(|file| fs::read_to_string(file).unwrap().contains("proptest! {"));
    for file in random {
        let module = format!("{}::", file.file_stem().unwrap().to_string_lossy());
        assert!(
            fuzzed.split(' ').any(|word| word == module),
            "the Makefile does not fuzz {}",
            file.display()
        );
    }
}

/// The reader of paths finds a circle, and which files make it.
#[test]
fn a_circle_is_found() {
    let source = |name: &[&str], text: &str| {
        (name.iter().map(ToString::to_string).collect::<Module>(), text.to_owned())
    };
    let sources = BTreeMap::from([
        source(&[], "mod a; mod b; pub use a::X;"),
        source(&["a"], "use crate::b::{self, Y}; #[cfg(test)] mod tests { use crate::c::Z; }"),
        source(&["b"], "fn f() -> super::c::Z { super::c::z() }"),
        source(&["c"], "mod d;"),
        source(&["c", "d"], "use super::super::a::X;"),
    ]);
    let graph = Graph::parse(&sources);
    assert_eq!(graph.circle(), None, "c does not use its child d");
    let top = graph.renamed(|module| module.first().map(|first| vec![first.clone()]));
    let names: BTreeSet<String> = top.circle().unwrap().concat().into_iter().collect();
    assert_eq!(names, ["a", "b", "c"].map(str::to_owned).into());
}
