//! Every decision, invariant, contract number and ADR that a tracked file names exists in `docs/`, and every relative
//! link in a Markdown page leads to a file and a heading that exist.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot read its own repository fails

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// File types whose text may cite a decision.
const CITING: [&str; 7] = ["rs", "md", "yaml", "yml", "sh", "mk", "toml"];
/// Characters that join two names into one word, as in a path or a hash.
const JOINERS: &str = "-/.+=#";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Paths that git tracks or would track, apart from deleted files.
fn tracked() -> Vec<String> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "git ls-files failed: run the tests in a git checkout");
    let paths = String::from_utf8(output.stdout).unwrap();
    let paths: BTreeSet<&str> = paths.lines().filter(|path| root().join(path).is_file()).collect();
    assert!(paths.len() > 100, "only {} tracked files", paths.len());
    paths.into_iter().map(str::to_owned).collect()
}

fn with_extension(paths: &[String], extensions: &[&str]) -> Vec<String> {
    let wanted = |path: &&String| {
        let path = Path::new(path.as_str());
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        extensions.contains(&extension) || path.ends_with("Makefile")
    };
    paths.iter().filter(wanted).cloned().collect()
}

/// Maximal runs of letters, digits and underscores, with their start.
fn words(text: &str) -> Vec<(usize, &str)> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut words = vec![];
    let mut start = None;
    for (at, character) in text.char_indices().chain([(text.len(), ' ')]) {
        match start {
            None if is_word(character) => start = Some(at),
            Some(from) if !is_word(character) => {
                words.push((from, &text[from..at]));
                start = None;
            }
            _ => {}
        }
    }
    words
}

/// Returns whether a word is an identifier of the documents: D, I, C or A, and one or two digits.
fn is_id(word: &str) -> bool {
    let (Some(letter), digits) = (word.chars().next(), &word[1..]) else { return false };
    "DICA".contains(letter)
        && matches!(digits.len(), 1 | 2)
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The identifiers that a text cites. A word that is joined to other words, as in a hash or a path, is none; a range
/// such as `I2-I3` is two.
fn ids(text: &str) -> BTreeSet<String> {
    let words = words(text);
    let is_joined = |from: usize, to: usize, family: &str, neighbor: &str| {
        let between = &text[from..to];
        between.chars().count() == 1
            && between.chars().all(|character| JOINERS.contains(character))
            && !(is_id(neighbor) && neighbor.starts_with(family))
    };
    let mut found = BTreeSet::new();
    for (index, (at, word)) in
        words.iter().enumerate().filter(|(_, (_, word))| word.is_ascii() && is_id(word))
    {
        let family = &word[..1];
        let before = index.checked_sub(1).map(|before| words[before]);
        let joined_before =
            before.is_some_and(|(start, other)| is_joined(start + other.len(), *at, family, other));
        let end = at + word.len();
        let joined_after =
            words.get(index + 1).is_some_and(|(next, other)| is_joined(end, *next, family, other));
        if !joined_before && !joined_after {
            found.insert((*word).to_owned());
        }
    }
    found
}

/// The numbers of ADRs that a text cites: `ADR 2`, `ADRs 2 and 3`, `ADRs 2, 3`, `ADRs 2 to 4`.
fn adrs(text: &str) -> BTreeSet<u32> {
    let words: Vec<&str> = words(text).into_iter().map(|(_, word)| word).collect();
    let mut found = BTreeSet::new();
    for (index, _) in words.iter().enumerate().filter(|(_, word)| ["ADR", "ADRs"].contains(word)) {
        let (mut last, mut is_range) = (0, false);
        for word in &words[index + 1..] {
            match word.parse::<u32>() {
                Ok(number) => {
                    found.extend(if is_range { last + 1 } else { number }..=number);
                    (last, is_range) = (number, false);
                }
                Err(_) if last > 0 && ["to", "and"].contains(word) => is_range = *word == "to",
                Err(_) => break,
            }
        }
    }
    found
}

/// The schema sections that a text cites: `contract 4d`.
fn sections(text: &str) -> BTreeSet<String> {
    let words: Vec<&str> = words(text).into_iter().map(|(_, word)| word).collect();
    let is_section =
        |word: &str| word.len() == 2 && word.starts_with('4') && word.ends_with(char::is_alphabetic);
    let pairs =
        words.windows(2).filter(|pair| pair[0].eq_ignore_ascii_case("contract") && is_section(pair[1]));
    pairs.map(|pair| pair[1].to_owned()).collect()
}

/// The text of a page without code blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.push_str(line);
        }
        prose.push('\n');
    }
    prose
}

/// The identifiers that a page defines, by a heading `### D2 Title` or by a row that begins with one.
fn defined(page: &str) -> BTreeSet<String> {
    let text = prose(page);
    let word = |line: &str| {
        let title = line.strip_prefix("### ");
        let cell = || line.strip_prefix("| <a id=\"")?.split_once("\"></a>").map(|(_, rest)| rest);
        title.or_else(cell)?.split_whitespace().next().map(str::to_owned)
    };
    text.lines().filter_map(word).filter(|word| is_id(word) || word.starts_with('4')).collect()
}

/// GitHub's anchor of a heading.
fn slug(heading: &str) -> String {
    let mut title = String::new();
    let mut rest = heading;
    // The target of a link is no part of the title.
    while let Some((before, after)) = rest.split_once("](") {
        title.push_str(before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    title.push_str(rest);
    let kept = title.trim().to_lowercase();
    let kept = kept.chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
    kept.map(|character| if character == ' ' { '-' } else { character }).collect()
}

/// The anchors of a page: headings, the second of a name with `-1`, and `<a id="...">`.
fn anchors(page: &str) -> BTreeSet<String> {
    let text = prose(page);
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with('#')) {
        let slug = slug(line.trim_start_matches('#'));
        let count = times.entry(slug.clone()).or_default();
        anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    let explicit = text.split("<a id=\"").skip(1).filter_map(|rest| rest.split_once('"'));
    anchors.extend(explicit.map(|(id, _)| id.to_owned()));
    anchors
}

/// The targets of the links of a page, apart from code and from other sites.
fn links(page: &str) -> Vec<String> {
    let text = prose(page);
    let without_code: String = text.split('`').step_by(2).collect::<Vec<_>>().join("code");
    let targets = without_code.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let is_local = |target: &&str| !target.contains("://") && !target.starts_with("mailto:");
    targets.map(|(target, _)| target).filter(is_local).map(str::to_owned).collect()
}

/// A path without `.` and `..`.
fn normalized(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            other => path.push(other),
        }
        path
    })
}

/// Why a link of a page leads nowhere, if it does.
fn broken(page: &str, text: &str, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let folder = Path::new(page).parent().unwrap();
    let path = if file.is_empty() { PathBuf::from(page) } else { normalized(&folder.join(file)) };
    if !root().join(&path).exists() {
        return Some(format!("{page}: {target}: there is no {}", path.display()));
    }
    let anchor = anchor?;
    let other = if file.is_empty() { text.to_owned() } else { read(path.to_str().unwrap()) };
    let known = anchors(&other).contains(anchor);
    (!known).then(|| format!("{page}: {target}: {} has no heading #{anchor}", path.display()))
}

/// Everything that the documents define.
fn catalog() -> BTreeSet<String> {
    let pages = ["docs/design.md", "docs/invariants.md", "docs/interface.md"];
    pages.iter().flat_map(|page| defined(&read(page))).collect()
}

/// The files of ADRs, by number.
fn adr_files() -> BTreeMap<u32, String> {
    let files = tracked().into_iter().filter(|path| path.starts_with("docs/adr/0"));
    files.map(|path| (path["docs/adr/".len()..][..4].parse().unwrap(), path)).collect()
}

#[test]
fn the_documents_define_every_number_without_a_gap() {
    let catalog = catalog();
    for (letter, last) in [('D', 40), ('I', 45), ('C', 54), ('A', 22)] {
        let missing: Vec<_> =
            (1..=last).map(|number| format!("{letter}{number}")).filter(|id| !catalog.contains(id)).collect();
        assert!(missing.is_empty(), "docs/ does not define {missing:?}");
    }
    let numbers: Vec<u32> = adr_files().into_keys().collect();
    assert_eq!(numbers, (1..=u32::try_from(numbers.len()).unwrap()).collect::<Vec<_>>(), "a gap in docs/adr");
}

#[test]
fn every_number_that_a_file_cites_is_defined() {
    let (catalog, files) = (catalog(), adr_files());
    let (mut count, mut unknown) = (0, vec![]);
    for path in with_extension(&tracked(), &CITING) {
        let text = read(&path);
        let cited = ids(&text);
        count += cited.len();
        let cited = cited.into_iter().chain(sections(&text));
        unknown.extend(cited.filter(|id| !catalog.contains(id)).map(|id| format!("{path}: {id}")));
        let adrs = adrs(&text).into_iter().filter(|number| !files.contains_key(number));
        unknown.extend(adrs.map(|number| format!("{path}: ADR {number}")));
    }
    assert!(unknown.is_empty(), "cited, and not in docs/: {unknown:#?}");
    assert!(count > 300, "only {count} citations: has their form changed?");
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let mut found = vec![];
    for page in with_extension(&tracked(), &["md"]).iter().filter(|path| !path.ends_with("Makefile")) {
        let text = read(page);
        found.extend(links(&text).iter().filter_map(|target| broken(page, &text, target)));
    }
    assert!(found.is_empty(), "broken links: {found:#?}");
}

/// Comments, scripts and makefiles name pages by their path from the root.
#[test]
fn every_page_that_a_file_names_exists() {
    let mut missing = vec![];
    for path in with_extension(&tracked(), &CITING) {
        let text = read(&path);
        let is_path = |character: char| character.is_ascii_alphanumeric() || "/._-".contains(character);
        for word in text.split(|character| !is_path(character)) {
            let page = word.trim_end_matches('.');
            let is_page =
                page.starts_with("docs/") && Path::new(page).extension().is_some_and(|end| end == "md");
            if is_page && !root().join(page).is_file() {
                missing.push(format!("{path}: {page}"));
            }
        }
    }
    assert!(missing.is_empty(), "named, and not there: {missing:#?}");
}

#[test]
fn decisions_and_their_amendments_link_to_each_other() {
    let (design, index) = (read("docs/design.md"), read("docs/adr/README.md"));
    for (number, path) in adr_files() {
        let file = &path["docs/adr/".len()..];
        let text = read(&path);
        assert!(design.contains(&format!("(adr/{file})")), "docs/design.md does not link to {file}");
        assert!(text.contains("](../design.md#d"), "{file} does not link to the decision that it amends");
        let title = text.lines().next().unwrap_or_default();
        let title =
            title.strip_prefix(&format!("# {number}. ")).unwrap_or_else(|| panic!("{file}: {title:?}"));
        assert!(index.contains(&format!("| [{number}]({file}) | {title} |")), "docs/adr/README.md: {file}");
    }
}

/// Both pages say by which means an invariant is checked.
#[test]
fn the_invariants_are_checked_as_the_proof_says() {
    let (invariants, proof) = (read("docs/invariants.md"), read("docs/proof.md"));
    for number in 1..=45 {
        let row = |page: &str, start: String| {
            page.lines()
                .find_map(|line| line.strip_prefix(&start).map(str::to_owned))
                .unwrap_or_else(|| panic!("no {start}"))
        };
        let here = row(&invariants, format!("| <a id=\"i{number}\"></a>I{number} |"));
        let there = row(&proof, format!("| I{number} |"));
        let cells: Vec<&str> = there.split('|').map(str::trim).collect();
        let mut means: Vec<&str> = vec![];
        means.extend((cells[1] == "yes").then_some("model"));
        means.extend((cells[2] == "yes").then_some("checker"));
        means.extend((cells[2] == "requests").then_some("requests"));
        means.extend((!["yes", "requests"].contains(&cells[2])).then_some("tests"));
        let said = here.trim_end_matches('|').rsplit('|').next().unwrap_or_default().trim();
        assert_eq!(said, means.join(", "), "I{number}");
    }
}

/// Names in this file are put together, so that it cites nothing itself.
fn id(letter: char, number: u32) -> String {
    format!("{letter}{number}")
}

#[test]
fn the_parser_finds_citations_and_nothing_else() {
    let (first, second) = (id('D', 98), id('I', 97));
    for text in
        [format!("design {first}."), format!("({first})"), format!("\"{first}: text\""), format!("`{first}`")]
    {
        assert_eq!(ids(&text), BTreeSet::from([first.clone()]), "{text}");
    }
    let list = format!("(design {first}, {second})");
    assert_eq!(ids(&list), BTreeSet::from([first.clone(), second]));
    let range = format!("{}-{}", id('I', 90), id('I', 93));
    assert_eq!(ids(&range).len(), 2, "the ends of a range");
    let joined = [
        format!("a-{first}-b"),
        format!("x/{first}+z"),
        format!("{first}e"),
        format!("_{first}"),
        id('D', 123),
    ];
    for text in joined {
        assert!(ids(&text).is_empty(), "{text}");
    }
    assert!(ids("i64, u8, B2, sha256:D4C5E6F7").is_empty());
}

#[test]
fn the_parser_finds_adrs_and_sections() {
    assert_eq!(adrs(&format!("[{} 97](adr/0097-x.md), see", "ADR")), BTreeSet::from([97]));
    assert_eq!(adrs(&format!("{} 91 to 93, 96 and 95 hold", "ADRs")), BTreeSet::from([91, 92, 93, 95, 96]));
    assert!(adrs(&format!("an {} in docs 97", "ADR")).is_empty());
    assert_eq!(sections(&format!("({} 4z)", "contract")), BTreeSet::from(["4z".to_owned()]));
}

#[test]
fn a_missing_number_or_link_is_found() {
    let page = format!(
        "### {} Title\n\n| <a id=\"x\"></a>{} | text |\n```\n### {} code\n```\n",
        id('D', 98),
        id('I', 97),
        id('D', 96)
    );
    let known = defined(&page);
    assert_eq!(known, BTreeSet::from([id('D', 98), id('I', 97)]));
    let cited = ids(&format!("see {} and {}", id('D', 98), id('D', 96)));
    assert_eq!(cited.difference(&known).collect::<Vec<_>>(), [&id('D', 96)]);
    let text = "# Some `code` and [a link](x.md)\n## Two\n## Two\n<a id=\"own\"></a>\n[a](#two) `[b](no.md)` [c](https://e.org)";
    assert_eq!(links(text), ["x.md", "#two"]);
    let expected = ["own", "some-code-and-a-link", "two", "two-1"].map(str::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(expected));
    assert_eq!(broken("README.md", "# Here", "#here"), None);
    assert!(broken("README.md", "# Here", "#there").is_some());
    assert!(broken("docs/proof.md", "", "adr/none.md").is_some());
    assert_eq!(broken("docs/proof.md", "", "../README.md"), None);
    assert_eq!(slug(" D2 Two front Services, one decision"), "d2-two-front-services-one-decision");
}
