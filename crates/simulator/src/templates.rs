//! Message templates in source code: which ones a file holds, and whether a message was made from one.
//!
//! Tests use them to prove that each invariant has a case that violates it.

/// Whether these are the words of a law, with something in its brackets.
pub fn says(words: &str, law: &str) -> bool {
    let mut pieces = law.split('{').map(|piece| piece.split_once('}').map_or(piece, |(_, rest)| rest));
    let Some(mut rest) = words.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    pieces.all(|piece| match rest.split_once(piece) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// The words of all laws: whatever has a space between quotation marks, but for what cannot be reached.
pub fn words(code: &'static str) -> Vec<&'static str> {
    let lines = code.lines().filter(|line| !line.trim().starts_with("//") && !line.contains(".expect("));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).filter(|quoted| quoted.contains(' ')).collect()
}
