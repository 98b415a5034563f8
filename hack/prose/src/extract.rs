//! Paragraphs of prose in a file: text of a Markdown page, comments of code, string literals of Rust.

/// A line of text, without the marks of a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Number of the line in its file, from 1.
    pub number: usize,
    /// The text, trimmed.
    pub text: String,
}

/// Lines that belong together. A sentence does not go beyond them.
pub type Paragraph = Vec<Line>;

/// Returns the paragraphs of a Markdown page, without fenced code and quoted blocks. A table row, a heading and an item
/// of a list are paragraphs.
#[must_use]
pub fn markdown(source: &str) -> Vec<Paragraph> {
    let mut is_code = false;
    let mut paragraphs = Paragraphs::default();
    for (number, line) in numbered(source) {
        let text = line.trim();
        let is_fence = text.starts_with("```") || text.starts_with("~~~");
        is_code ^= is_fence;
        if is_code || is_fence || text.starts_with('>') {
            paragraphs.end();
            continue;
        }
        let item = text.trim_start_matches(|char: char| char.is_ascii_digit());
        if ["- ", "* ", "#", "|"].iter().any(|mark| text.starts_with(mark)) || item.starts_with(". ") {
            paragraphs.end();
        }
        paragraphs.push(number, text.trim_start_matches(['-', '*', '#', ' ']));
        if text.starts_with('#') {
            paragraphs.end();
        }
    }
    paragraphs.done()
}

/// Returns the paragraphs of comments that start with `#` and take whole lines: shell, YAML. Help texts of a Makefile
/// (after `##`) are paragraphs too.
#[must_use]
pub fn hash_comments(source: &str) -> Vec<Paragraph> {
    let mut paragraphs = Paragraphs::default();
    for (number, line) in numbered(source) {
        let text = line.trim();
        if let Some(comment) = text.strip_prefix('#').filter(|_| !text.starts_with("#!")) {
            paragraphs.push(number, comment.trim());
            continue;
        }
        paragraphs.end();
        if let Some((_, help)) = text.split_once(": ## ").or_else(|| text.split_once(" ## ")) {
            paragraphs.push(number, help);
            paragraphs.end();
        }
    }
    paragraphs.done()
}

/// Comments and string literals of a Rust file.
#[derive(Debug, Default)]
pub struct Rust {
    /// All comments, also those after code.
    pub comments: Vec<Paragraph>,
    /// Literals with a space in them: messages.
    pub literals: Vec<Paragraph>,
}

/// Returns comments and string literals of a Rust file.
#[must_use]
pub fn rust(source: &str) -> Rust {
    let mut comments = Paragraphs::default();
    let mut literals = vec![];
    let mut is_code_block = false;
    let mut last = 0;
    for piece in pieces(source) {
        if piece.is_comment {
            for (offset, line) in piece.text.lines().enumerate() {
                let number = piece.line + offset;
                let text = line.trim_start().trim_start_matches(['/', '!', '*']).trim();
                if number != last + 1 || text.starts_with("- ") {
                    comments.end();
                }
                is_code_block &= number == last + 1;
                last = number;
                let is_fence = text.starts_with("```");
                is_code_block ^= is_fence;
                if is_code_block || is_fence {
                    comments.end();
                } else {
                    comments.push(number, text.trim_start_matches("- "));
                }
            }
        } else if piece.text.contains(' ') {
            let lines = piece.text.lines().enumerate();
            literals.push(
                lines
                    .map(|(offset, text)| Line { number: piece.line + offset, text: unescaped(text) })
                    .collect(),
            );
        }
    }
    Rust { comments: comments.done(), literals }
}

/// Returns the first line of the unit tests at the end of a Rust file; past the last line if it has none.
#[must_use]
pub fn first_test_line(source: &str) -> usize {
    let mut is_test = false;
    for (number, line) in numbered(source) {
        if is_test && line.starts_with("mod ") && line.ends_with('{') {
            return number;
        }
        is_test = line == "#[cfg(test)]";
    }
    usize::MAX
}

fn numbered(source: &str) -> impl Iterator<Item = (usize, &str)> {
    source.lines().enumerate().map(|(at, line)| (at + 1, line))
}

fn unescaped(text: &str) -> String {
    text.replace("\\n", ". ").replace("\\\"", "\"").replace("{{", "").replace("}}", "").replace('\\', "")
}

#[derive(Default)]
struct Paragraphs {
    done: Vec<Paragraph>,
    open: Paragraph,
}

impl Paragraphs {
    /// Adds a line to the open paragraph; an empty line ends it.
    fn push(&mut self, number: usize, text: &str) {
        if text.is_empty() {
            self.end();
        } else {
            self.open.push(Line { number, text: text.to_owned() });
        }
    }

    fn end(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
    }

    fn done(mut self) -> Vec<Paragraph> {
        self.end();
        self.done
    }
}

struct Piece {
    line: usize,
    is_comment: bool,
    text: String,
}

/// Returns comments (with their marks) and string literals (without quotes) in the order of the file.
fn pieces(source: &str) -> Vec<Piece> {
    let mut found = vec![];
    let (mut at, mut line) = (0, 1);
    let mut previous = ' ';
    while let Some(char) = source.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = source.get(at..).unwrap_or_default();
        let (length, piece) = match char {
            '/' if rest.starts_with("//") => comment(rest, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => comment(rest, rest.find("*/").map_or(rest.len(), |end| end + 2)),
            '"' => string(rest),
            'r' if !is_name(previous) && is_raw(rest) => raw_string(rest),
            '\'' => (char_literal(rest), None),
            _ => (char.len_utf8(), None),
        };
        found.extend(piece.map(|(is_comment, text)| Piece { line, is_comment, text }));
        let read = rest.get(..length).unwrap_or(rest);
        line += read.matches('\n').count();
        // After a `b` that starts a name, `r"` can start a raw string: `br"..."`.
        previous = if char == 'b' && !is_name(previous) { ' ' } else { char };
        at += read.len().max(char.len_utf8());
    }
    found
}

type Found = (usize, Option<(bool, String)>);

fn comment(rest: &str, length: usize) -> Found {
    (length, Some((true, rest.get(..length).unwrap_or_default().to_owned())))
}

/// Reads a literal that starts with a quote. A backslash hides the next character.
fn string(rest: &str) -> Found {
    let mut is_hidden = false;
    for (at, char) in rest.char_indices().skip(1) {
        if char == '"' && !is_hidden {
            return (at + 1, Some((false, rest.get(1..at).unwrap_or_default().to_owned())));
        }
        is_hidden = char == '\\' && !is_hidden;
    }
    (rest.len(), None)
}

fn is_raw(rest: &str) -> bool {
    rest.strip_prefix('r').is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'))
}

/// Reads `r#"..."#` with any number of hashes.
fn raw_string(rest: &str) -> Found {
    let Some(open) = rest.find('"') else { return (1, None) };
    let close = format!("\"{}", "#".repeat(open - 1));
    let body = rest.get(open + 1..).unwrap_or_default();
    let Some(end) = body.find(&close) else { return (rest.len(), None) };
    (open + 1 + end + close.len(), Some((false, body.get(..end).unwrap_or_default().to_owned())))
}

/// Returns the length of a character literal; 1 for the quote of a lifetime.
fn char_literal(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((next, _))) => {
            // The character after the backslash may be a quote.
            let body = rest.get(next + 1..).unwrap_or_default();
            body.find('\'').map_or(1, |end| next + 1 + end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

fn is_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(paragraphs: &[Paragraph]) -> Vec<String> {
        let show = |line: &Line| format!("{}:{}", line.number, line.text);
        paragraphs.iter().map(|lines| lines.iter().map(show).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn markdown_is_text_without_code() {
        let page =
            "# Head\nText a\ntext b\n\n```console\nwhat is\n```\n> quoted\n- item\n1. first\n| cell |\n";
        let expected = ["1:Head", "2:Text a 3:text b", "9:item", "10:1. first", "11:| cell |"];
        assert_eq!(shown(&markdown(page)), expected);
    }

    #[test]
    fn comments_of_rust_are_paragraphs() {
        let code = "//! Page.\n//!\n//! More\n//! text.\nfn a() {} // trailing\n/* block\n   text */\n";
        let comments = shown(&rust(code).comments);
        assert_eq!(comments, ["1:Page.", "3:More 4:text. 5:trailing 6:block 7:text */"]);
    }

    #[test]
    fn a_fence_in_a_comment_is_code() {
        let code = "/// Text.\n/// ```\n/// what is\n/// ```\n/// More.\nfn a() {}\n";
        assert_eq!(shown(&rust(code).comments), ["1:Text.", "5:More."]);
    }

    #[test]
    fn strings_are_told_from_characters_lifetimes_and_comments() {
        let code = r##"fn a<'a>(b: &'a str) { let c = '"'; let d = '\''; f("a \"b\" // c", r#"raw "text" here"#, "id"); }"##;
        assert_eq!(shown(&rust(code).literals), ["1:a \"b\" // c", "1:raw \"text\" here"]);
        assert!(rust(code).comments.is_empty());
    }

    #[test]
    fn a_string_over_two_lines_keeps_its_lines() {
        assert_eq!(shown(&rust("\nlet a = \"one \\\n  two\";").literals), ["2:one  3:  two"]);
    }

    #[test]
    fn unit_tests_start_at_their_module() {
        assert_eq!(first_test_line("fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n"), 4);
        assert_eq!(first_test_line("#[cfg(test)]\nmod tests;\nfn a() {}\n"), usize::MAX);
    }

    #[test]
    fn shell_and_makefile_comments() {
        let source = "#!/bin/bash\n# Text a\n# text b\ncode # not\nunit: a ## runs tests\n";
        assert_eq!(shown(&hash_comments(source)), ["2:Text a 3:text b", "5:runs tests"]);
    }
}
