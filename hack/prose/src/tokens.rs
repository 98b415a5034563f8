//! Words and sentence boundaries of a paragraph.

use crate::extract::Line;

/// A word or a mark between words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A word.
    Word {
        /// The word in lower case.
        text: String,
        /// True if its first letter is a capital.
        capital: bool,
    },
    /// Code, quoted text or a placeholder of a format string: it takes the place of a noun and is not measured.
    Noun,
    /// End of a sentence or of a table cell.
    End,
    /// Any other mark that can precede a clause: `,` `;` `:` `(` and a dash.
    Pause,
}

/// A token and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The token.
    pub token: Token,
    /// Number of the line in its file, from 1.
    pub line: usize,
}

/// Returns the tokens of a paragraph. Code in backticks, quoted text, `{placeholders}` and link targets become nouns or
/// disappear, also where they span lines.
#[must_use]
pub fn tokens(paragraph: &[Line]) -> Vec<Placed> {
    let mut chars = vec![];
    for line in paragraph {
        chars.extend(line.text.chars().map(|char| (char, line.number)));
        chars.push((' ', line.number));
    }
    let mut rest = chars.as_slice();
    let mut found = vec![];
    while let Some((&(char, line), after)) = rest.split_first() {
        let (token, next) = read(char, rest, after);
        found.extend(token.map(|token| Placed { token, line }));
        rest = next;
    }
    found
}

type Chars<'a> = &'a [(char, usize)];

/// Returns the token that starts with `char`, if any, and the characters after it.
fn read<'a>(char: char, all: Chars<'a>, after: Chars<'a>) -> (Option<Token>, Chars<'a>) {
    let enclosed = |close: char| {
        let end = after.iter().position(|(char, _)| *char == close)?;
        after.get(end + 1..).map(|next| (Some(Token::Noun), next))
    };
    match char {
        '`' => enclosed('`').unwrap_or((None, after)),
        '"' => enclosed('"').unwrap_or((None, after)),
        '{' => enclosed('}').unwrap_or((None, after)),
        ']' if starts_with(after, '(') => {
            let end = after.iter().position(|(char, _)| *char == ')');
            (None, end.and_then(|end| after.get(end + 1..)).unwrap_or(after))
        }
        '.' | '!' | '?' if after.first().is_none_or(|(char, _)| !char.is_alphanumeric()) => {
            (Some(Token::End), after)
        }
        '|' => (Some(Token::End), after),
        ',' | ';' | ':' | '(' | '\u{2013}' | '\u{2014}' => (Some(Token::Pause), after),
        char if char.is_alphabetic() => word(all),
        _ => (None, after),
    }
}

fn starts_with(chars: Chars<'_>, wanted: char) -> bool {
    chars.first().is_some_and(|(char, _)| *char == wanted)
}

/// Returns the word at the start of `chars`. An address (`scheme://...`) is a noun up to the next space.
fn word(chars: Chars<'_>) -> (Option<Token>, Chars<'_>) {
    let is_part = |char: char| char.is_alphabetic() || char == '\'';
    let end = chars.iter().position(|(char, _)| !is_part(*char)).unwrap_or(chars.len());
    let (letters, next) = chars.split_at(end);
    if next.iter().take(3).map(|(char, _)| *char).eq("://".chars()) {
        let end = next.iter().position(|(char, _)| char.is_whitespace()).unwrap_or(next.len());
        return (Some(Token::Noun), next.get(end..).unwrap_or_default());
    }
    let text: String = letters.iter().map(|(char, _)| *char).collect();
    let capital = text.starts_with(char::is_uppercase);
    (Some(Token::Word { text: text.to_lowercase(), capital }), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let lines: Vec<Line> = text
            .lines()
            .enumerate()
            .map(|(at, text)| Line { number: at + 1, text: text.to_owned() })
            .collect();
        let show = |placed: Placed| match placed.token {
            Token::Word { text, capital: true } => text.to_uppercase(),
            Token::Word { text, .. } => text,
            Token::Noun => "N".into(),
            Token::End => ".".into(),
            Token::Pause => ",".into(),
        };
        tokens(&lines).into_iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_and_marks_are_told_apart() {
        assert_eq!(shown("The pods, 3 of 4, aren't Ready."), "THE pods , of , aren't READY .");
        assert_eq!(shown("version 0.2.0; see main.rs: it"), "version , see main rs , it");
    }

    #[test]
    fn code_quotes_and_placeholders_are_nouns_across_lines() {
        assert_eq!(shown("run `what is\nthis` and \"what is that\" of {name}"), "run N and N of N");
    }

    #[test]
    fn a_lone_backtick_or_quote_hides_nothing() {
        assert_eq!(shown("a ` b"), "a b");
        assert_eq!(shown("12\" wide"), "wide");
    }

    #[test]
    fn link_targets_and_addresses_do_not_count() {
        assert_eq!(shown("see [the page](what.md) at https://a.b/what now"), "see the page at N now");
    }

    #[test]
    fn a_token_knows_its_line() {
        let lines = [Line { number: 7, text: "a".into() }, Line { number: 8, text: "b".into() }];
        assert_eq!(tokens(&lines).iter().map(|placed| placed.line).collect::<Vec<_>>(), [7, 8]);
    }
}
