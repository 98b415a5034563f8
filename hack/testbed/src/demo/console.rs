//! What a person sees: scenes, commands, changes as they happen, all within 100 columns.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The columns of the narrowest terminal it is made for.
const WIDTH: usize = 100;
/// The columns before the text of a change.
const MARGIN: usize = 21;

/// Standard output, shared by the scenes and by what tells of changes.
#[derive(Debug)]
pub struct Console {
    colors: bool,
    state: Mutex<State>,
}

/// While a command runs, changes wait, so that they do not get between it and its output.
#[derive(Debug, Default)]
struct State {
    held: bool,
    waiting: Vec<String>,
    /// The last line is not empty.
    written: bool,
}

impl Console {
    /// Colors only on a terminal, and only when `NO_COLOR` is not set.
    pub fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colors: wanted && std::io::stdout().is_terminal(), state: Mutex::default() }
    }

    /// A heading.
    pub fn scene(&self, title: &str) {
        let line = "-".repeat(WIDTH.saturating_sub(title.chars().count() + 4));
        self.gap();
        self.print(&[self.paint("1", &format!("-- {title} {line}")), String::new()]);
    }

    /// Text for the reader.
    pub fn say(&self, text: &str) {
        let lines: Vec<String> = text.lines().flat_map(|line| wrap(line, WIDTH, 0)).collect();
        self.print(&lines);
    }

    /// A paragraph for the reader, between empty lines.
    pub fn paragraph(&self, text: &str) {
        self.gap();
        self.say(text);
        self.gap();
    }

    /// An empty line, unless there is one.
    pub fn gap(&self) {
        let mut state = self.state();
        if state.written && !state.held {
            state.write(&[String::new()]);
        }
    }

    /// A command, before it is run. Changes wait until [`Console::output`].
    pub fn command(&self, text: &str) {
        let shown: Vec<String> = format!("$ {text}").lines().map(|line| self.paint("36", line)).collect();
        self.gap();
        let mut state = self.state();
        state.held = true;
        state.write(&shown);
    }

    /// What a command has written; an empty line follows.
    pub fn output(&self, text: &str) {
        let mut lines: Vec<String> = text.lines().flat_map(|line| wrap(line, WIDTH, 4)).collect();
        lines.push(String::new());
        self.state().write(&lines);
        self.release();
    }

    /// Prints what has waited, should a command not have come to its end.
    pub fn release(&self) {
        let mut state = self.state();
        state.held = false;
        let waiting = std::mem::take(&mut state.waiting);
        state.write(&waiting);
    }

    /// Something that happened, `at` after the start.
    pub fn change(&self, at: Duration, what: &str, text: &str) {
        let tone = if text.starts_with("Warning") || text.contains("-> Degraded") { "33" } else { "0" };
        let head = format!("+{:>5.1} s  {what:<10} ", at.as_secs_f64());
        let blank = " ".repeat(MARGIN.saturating_sub(1));
        let lines: Vec<String> = wrap(text, WIDTH - MARGIN, 2)
            .into_iter()
            .enumerate()
            .map(|(place, line)| {
                format!("{}{}", if place == 0 { &head } else { &blank }, self.paint(tone, &line))
            })
            .collect();
        self.print(&lines);
    }

    /// A check that held, or did not.
    pub fn verdict(&self, ok: bool, text: &str) {
        let head = if ok { self.paint("32", "ok  ") } else { self.paint("31", "FAIL") };
        let lines: Vec<String> = wrap(text, WIDTH - 6, 2)
            .into_iter()
            .enumerate()
            .map(|(place, line)| if place == 0 { format!("{head}  {line}") } else { format!("      {line}") })
            .collect();
        self.print(&lines);
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colors && code != "0" { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn print(&self, lines: &[String]) {
        let mut state = self.state();
        if state.held {
            state.waiting.extend_from_slice(lines);
        } else {
            state.write(lines);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Prints lines; a reader that has gone away (`| head`) is no reason to stop.
    fn write(&mut self, lines: &[String]) {
        let mut out = std::io::stdout().lock();
        for line in lines {
            let _ = writeln!(out, "{line}");
            self.written = !line.is_empty();
        }
        let _ = out.flush();
    }
}

/// Breaks a line that does not fit, at spaces; what follows is indented. Other lines stay as they are.
fn wrap(line: &str, width: usize, indent: usize) -> Vec<String> {
    if line.chars().count() <= width {
        return vec![line.to_owned()];
    }
    let leading = line.len() - line.trim_start().len();
    let mut done = Vec::new();
    let mut current = " ".repeat(leading);
    let mut fresh = true;
    for word in line.split_whitespace() {
        if !fresh && current.chars().count() + 1 + word.chars().count() > width {
            done.push(std::mem::replace(&mut current, " ".repeat(leading + indent)));
            fresh = true;
        }
        if !fresh {
            current.push(' ');
        }
        current.push_str(word);
        fresh = false;
    }
    done.push(current);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_spaces() {
        assert_eq!(wrap("a  b", 10, 2), ["a  b"]);
        assert_eq!(wrap("one two three", 8, 2), ["one two", "  three"]);
        assert_eq!(wrap("  one two three four", 9, 2), ["  one two", "    three", "    four"]);
        assert_eq!(wrap("toolongforthis yes", 6, 0), ["toolongforthis", "yes"]);
    }
}
