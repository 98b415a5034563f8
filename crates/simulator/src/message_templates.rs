//! Message templates in source code: the templates of a file, and whether a message was made from a given template.
//!
//! Tests use them to prove that each invariant has a case that violates it.

/// Returns whether a message has the text of a template, with any value in place of each `{}`.
pub fn matches_template(message: &str, template: &str) -> bool {
    let mut texts = template.split('{').map(|text| text.split_once('}').map_or(text, |(_, after)| after));
    let Some(mut rest) = message.strip_prefix(texts.next().unwrap_or_default()) else { return false };
    texts.all(|text| match rest.split_once(text) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// Returns all message templates of a source file: the string literals with a space. Skips comments and the messages of
/// `expect`.
pub fn templates(code: &'static str) -> Vec<&'static str> {
    let lines = code.lines().filter(|line| !line.trim().starts_with("//") && !line.contains(".expect("));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).filter(|quoted| quoted.contains(' ')).collect()
}
