//! The areas of the repository, the files of each, and their limits.

use crate::extract::{Paragraph, first_test_line, hash_comments, markdown, rust};
use crate::rules::Kind;

/// Texts that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Comments of the operator.
    Product,
    /// Comments of tests, test bed, tools and examples.
    Tests,
    /// Comments of scripts, Makefiles, charts and manifests.
    Scripts,
    /// String literals of the operator: messages, log lines, help texts.
    Messages,
    /// README, CONTRIBUTING, CHANGELOG, SECURITY.
    Front,
    /// Pages in docs.
    Docs,
}

impl Area {
    /// All areas, in the order of the report.
    pub const ALL: [Self; 6] =
        [Self::Product, Self::Tests, Self::Scripts, Self::Messages, Self::Front, Self::Docs];

    /// Returns the name of the area in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Product => "comments of the operator",
            Self::Tests => "comments of tests and tools",
            Self::Scripts => "comments of scripts and manifests",
            Self::Messages => "messages",
            Self::Front => "README and its neighbors",
            Self::Docs => "docs",
        }
    }

    /// Returns the most findings of a kind per 1,000 words that the area may have.
    #[must_use]
    pub fn limit(self, kind: Kind) -> f64 {
        let row = LIMITS.iter().find(|row| row.0 == self);
        row.map_or(0.0, |(_, clauses, starts, idioms)| match kind {
            Kind::Clause => *clauses,
            Kind::Start => *starts,
            Kind::Idiom => *idioms,
        })
    }
}

/// Limits of clauses, starts and idioms. No commit raises them.
const LIMITS: [(Area, f64, f64, f64); 6] = [
    (Area::Product, 1.0, 1.0, 1.0),
    (Area::Tests, 1.0, 1.0, 1.0),
    (Area::Scripts, 1.0, 1.0, 1.0),
    (Area::Messages, 1.0, 1.0, 1.0),
    (Area::Front, 1.0, 1.0, 1.0),
    (Area::Docs, 1.0, 1.0, 1.0),
];

/// Folders and files in the root of the repository that are read.
pub const ROOTS: [&str; 16] = [
    ".github",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "charts",
    "config",
    "crates",
    "docs",
    "examples",
    "hack",
    "overlays",
    "scripts",
    "src",
    "tests",
];

/// Returns the prose of a file by area. `path` is relative to the root of the repository, with `/` between its parts.
#[must_use]
pub fn prose(path: &str, source: &str) -> Vec<(Area, Paragraph)> {
    let of =
        |area: Area, paragraphs: Vec<Paragraph>| paragraphs.into_iter().map(|text| (area, text)).collect();
    match extension(path) {
        "rs" if is_product(path) => operator_code(source),
        "rs" => of(Area::Tests, rust(source).comments),
        "md" if path.starts_with("docs/") => of(Area::Docs, markdown(source)),
        "md" if !path.contains('/') => of(Area::Front, markdown(source)),
        "sh" | "mk" | "yaml" | "Makefile" | "hooks" => of(Area::Scripts, hash_comments(source)),
        _ => vec![],
    }
}

/// Returns comments and messages of a file of the operator. Its unit tests count as tests, and have no messages.
fn operator_code(source: &str) -> Vec<(Area, Paragraph)> {
    let tests = first_test_line(source);
    let is_test = |text: &Paragraph| text.first().is_some_and(|line| line.number >= tests);
    let rust = rust(source);
    let area_of = |text: Paragraph| (if is_test(&text) { Area::Tests } else { Area::Product }, text);
    let comments = rust.comments.into_iter().map(area_of);
    let messages = rust.literals.into_iter().filter(|text| !is_test(text)).map(|text| (Area::Messages, text));
    comments.chain(messages).collect()
}

/// Returns the extension of a file; of a file without one its name, or "hooks" in the folder of that name.
fn extension(path: &str) -> &str {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name.rsplit_once('.') {
        Some((_, extension)) => extension,
        None if folder.ends_with("hooks") => "hooks",
        None => name,
    }
}

/// Returns whether a Rust file is part of the operator. Models, simulators and their tests are not.
fn is_product(path: &str) -> bool {
    let is_test = |part: &str| ["tests", "tests.rs", "model", "simulator"].contains(&part);
    (path.starts_with("src/") || path.starts_with("crates/")) && !path.split('/').any(is_test)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn areas(path: &str, source: &str) -> Vec<Area> {
        prose(path, source).into_iter().map(|(area, _)| area).collect()
    }

    #[test]
    fn files_belong_to_areas() {
        assert_eq!(areas("src/main.rs", "// a"), [Area::Product]);
        assert_eq!(areas("crates/model/src/world.rs", "// a"), [Area::Tests]);
        assert_eq!(areas("tests/e2e/main.rs", "// a\nlet a = \"b c\";"), [Area::Tests]);
        assert_eq!(areas("hack/hooks/pre-commit", "# a"), [Area::Scripts]);
        assert_eq!(areas("hack/x.mk", "# a"), [Area::Scripts]);
        assert_eq!(areas("README.md", "a"), [Area::Front]);
        assert_eq!(areas("docs/soak.md", "a"), [Area::Docs]);
        assert_eq!(areas("charts/x/README.txt", "a"), []);
    }

    #[test]
    fn unit_tests_of_the_operator_are_tests_without_messages() {
        let source = "// a\nlet a = \"b c\";\n#[cfg(test)]\nmod tests {\n// d\nlet e = \"f g\";\n}\n";
        assert_eq!(areas("src/main.rs", source), [Area::Product, Area::Tests, Area::Messages]);
    }
}
