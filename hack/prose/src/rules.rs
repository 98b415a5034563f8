//! The three kinds of findings, and the words that make them.

use crate::extract::Line;
use crate::tokens::{Placed, Token, tokens};

/// A kind of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A clause in place of a noun: "what serves" for "the active release".
    Clause,
    /// A sentence that starts with a word of [`VAGUE_STARTS`].
    Start,
    /// A phrase of [`IDIOMS`].
    Idiom,
}

impl Kind {
    /// All kinds, in the order of the report.
    pub const ALL: [Self; 3] = [Self::Clause, Self::Start, Self::Idiom];

    /// Returns the name of the kind in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clause => "clause",
            Self::Start => "start",
            Self::Idiom => "idiom",
        }
    }
}

/// A finding in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub kind: Kind,
    /// Line of the first word.
    pub line: usize,
    /// The words found, in lower case.
    pub words: String,
}

/// No sentence starts with these. "Returns whether ..." is fine, since it starts with a verb.
const VAGUE_STARTS: [&str; 5] = ["what", "whether", "one", "those", "of"];

/// "what" before one of these stands for a noun. Before a noun ("what kind") it does not.
const AFTER_WHAT: &str = "a an the this that these those it they he she we you nobody everybody somebody another other \
    others every each only users user people kubelet is was were are had has have does did do may can cannot must \
    will would should could serves served runs ran comes came goes went stands stood asks asked needs needed depends \
    follows follow followed makes made shapes starts started breaks broke holds held stays belongs remains moves \
    lasts counts keeps kept leads fails failed changes changed waits ends";

/// "one" and "those" at the start of a clause, before one of these, stand for a noun.
const AFTER_ONE: &str =
    "of that which who whose beyond alone by for with without is may at between under from in on";
const AFTER_THOSE: &str = "that which who whose of with without under from in on by for at";

/// Phrases that only a native reader knows, or that mean several things. `*` stands for one word.
const IDIOMS: &[&str] = &[
    "another hand",
    "another's hand",
    "other hands",
    "on its way",
    "on their way",
    "under way",
    "in vain",
    "anew",
    "made again",
    "put off",
    "puts off",
    "put back",
    "puts back",
    "taken away",
    "takes away",
    "take away",
    "held up",
    "holds up",
    "hold up",
    "holds * up",
    "hold * up",
    "holds nothing",
    "holds nobody",
    "give up",
    "gives up",
    "given up",
    "gave up",
    "goes on",
    "go on",
    "going on",
    "gone on",
    "went on",
    "goes back",
    "gone back",
    "get through",
    "gets through",
    "got through",
    "gets * through",
    "come to rest",
    "comes to rest",
    "came to rest",
    "tell",
    "tells",
    "told",
    "is said",
    "are said",
    "was said",
    "mend",
    "mends",
    "mended",
    "mending",
    "looked at",
    "look again",
    "looks again",
    "looking again",
    "for so long",
    "so many",
    "whatever",
    "whoever",
    "warm side",
    "kept warm",
    "is warm",
    "ghost",
    "ghosts",
    "mood",
    "moods",
    "nursery",
    "doomed",
    "sees to",
];

/// Returns the number of words of a paragraph, and the findings in it.
#[must_use]
pub fn judge(paragraph: &[Line]) -> (usize, Vec<Finding>) {
    let tokens = tokens(paragraph);
    let words = tokens.iter().filter(|placed| matches!(placed.token, Token::Word { .. })).count();
    let mut findings = vec![];
    for (at, placed) in tokens.iter().enumerate() {
        let rest = tokens.get(at..).unwrap_or_default();
        let before =
            at.checked_sub(1).and_then(|at| tokens.get(at)).map_or(&Token::End, |before| &before.token);
        let found = [
            (Kind::Clause, clause(before, rest)),
            (Kind::Start, start(before, &placed.token)),
            (Kind::Idiom, IDIOMS.iter().find_map(|idiom| phrase(idiom, rest))),
        ];
        findings.extend(
            found
                .into_iter()
                .filter_map(|(kind, words)| Some(Finding { kind, line: placed.line, words: words? })),
        );
    }
    (words, findings)
}

fn clause(before: &Token, rest: &[Placed]) -> Option<String> {
    let (first, second) = (word(rest, 0)?, word(rest, 1)?);
    let follows = |list: &str| list.split_whitespace().any(|word| word == second);
    let found = match first {
        "what" => follows(AFTER_WHAT),
        "one" => is_boundary(before) && follows(AFTER_ONE),
        "those" => is_boundary(before) && follows(AFTER_THOSE),
        _ => false,
    };
    found.then(|| format!("{first} {second}"))
}

fn start(before: &Token, token: &Token) -> Option<String> {
    let Token::Word { text, capital: true } = token else { return None };
    (*before == Token::End && VAGUE_STARTS.contains(&text.as_str())).then(|| text.clone())
}

fn phrase(idiom: &str, rest: &[Placed]) -> Option<String> {
    let mut found = vec![];
    for (at, wanted) in idiom.split(' ').enumerate() {
        let word = word(rest, at)?;
        if wanted != "*" && wanted != word {
            return None;
        }
        found.push(word);
    }
    Some(found.join(" "))
}

fn is_boundary(token: &Token) -> bool {
    matches!(token, Token::End | Token::Pause)
}

fn word(tokens: &[Placed], at: usize) -> Option<&str> {
    match &tokens.get(at)?.token {
        Token::Word { text, .. } => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let lines: Vec<Line> = text
            .lines()
            .enumerate()
            .map(|(at, text)| Line { number: at + 1, text: text.to_owned() })
            .collect();
        judge(&lines).1.into_iter().map(|found| format!("{} {}", found.kind.as_str(), found.words)).collect()
    }

    #[test]
    fn a_clause_in_place_of_a_noun_counts() {
        assert_eq!(found("Deletes what was left."), ["clause what was"]);
        assert_eq!(
            found("A pod, one that failed, and others; those of users."),
            ["clause one that", "clause those of"]
        );
    }

    #[test]
    fn a_determiner_and_a_number_do_not_count() {
        assert!(found("Returns in what order, the one that failed, and at least one of them.").is_empty());
    }

    #[test]
    fn a_sentence_that_starts_with_a_vague_word_counts() {
        assert_eq!(found("It ends. Whether it failed."), ["start whether"]);
        assert_eq!(found("What serves."), ["clause what serves", "start what"]);
        assert!(found("Returns whether it failed, of course.").is_empty());
    }

    #[test]
    fn an_idiom_counts_also_across_lines() {
        assert_eq!(
            found("by another\nhand, which holds releases up"),
            ["idiom another hand", "idiom holds releases up"]
        );
    }

    #[test]
    fn quoted_text_and_code_do_not_count() {
        assert!(found("The words \"what is\" and `what is` are quoted.").is_empty());
    }

    #[test]
    fn words_are_counted_and_lines_are_named() {
        let lines = [Line { number: 4, text: "one two".into() }, Line { number: 5, text: "what is".into() }];
        let (words, findings) = judge(&lines);
        assert_eq!((words, findings.len()), (4, 1));
        assert_eq!(findings[0].line, 5);
    }
}
