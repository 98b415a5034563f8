//! The output of the demo: headings, commands, changes and checks, all within 100 columns.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// The columns of the narrowest terminal that the output fits.
const WIDTH: usize = 100;
/// The columns before the text of a change.
const MARGIN: usize = 21;

/// A writer of lines, with colors on a terminal.
pub struct Console {
    colors: bool,
    writer: RefCell<Box<dyn Write>>,
    /// True if the last line has text.
    written: RefCell<bool>,
}

impl Console {
    /// Returns a console on standard output; `NO_COLOR` switches the colors off.
    pub(super) fn stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colors: wanted && std::io::stdout().is_terminal(), ..Self::to(std::io::stdout()) }
    }

    /// Returns a console without colors.
    pub fn to(writer: impl Write + 'static) -> Self {
        Self { colors: false, writer: RefCell::new(Box::new(writer)), written: RefCell::new(false) }
    }

    pub(super) fn heading(&self, title: &str) {
        let line = "-".repeat(WIDTH.saturating_sub(title.chars().count() + 4));
        self.gap();
        self.print([self.paint("1", &format!("-- {title} {line}")), String::new()]);
    }

    pub(super) fn say(&self, text: &str) {
        self.print(text.lines().flat_map(|line| wrap(line, WIDTH, 0)));
    }

    /// Prints text between empty lines; nothing if there is no text.
    pub(super) fn paragraph(&self, text: &str) {
        if !text.is_empty() {
            self.gap();
            self.say(text);
            self.gap();
        }
    }

    /// Prints an empty line, unless the last line is empty.
    pub(super) fn gap(&self) {
        if self.written.replace(false) {
            self.print([String::new()]);
        }
    }

    pub(super) fn command(&self, text: &str) {
        self.gap();
        self.print(format!("$ {text}").lines().map(|line| self.paint("36", line)));
    }

    pub(super) fn output(&self, text: &str) {
        self.print(text.lines().flat_map(|line| wrap(line, WIDTH, 4)).chain([String::new()]));
    }

    /// Prints a change, `at` after the start of the watches.
    pub(super) fn change(&self, at: Duration, topic: &str, text: &str) {
        let warns = text.starts_with("Warning") || text.contains("-> Degraded");
        let head = format!("+{:>5.1} s  {topic:<10} ", at.as_secs_f64());
        self.entry(&head, &" ".repeat(MARGIN), text, if warns { "33" } else { "" });
    }

    pub(super) fn verdict(&self, held: bool, text: &str) {
        let mark = if held { self.paint("32", "ok  ") } else { self.paint("31", "FAIL") };
        self.entry(&format!("{mark}  "), "      ", text, "");
    }

    fn entry(&self, head: &str, blank: &str, text: &str, tone: &str) {
        let lines = text.lines().flat_map(|line| wrap(line, WIDTH - blank.len(), 1)).enumerate();
        let head = |place| if place == 0 { head } else { blank };
        self.print(lines.map(|(place, line)| format!("{}{}", head(place), self.paint(tone, &line))));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colors && !code.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Prints lines. A reader that closed the pipe (`| head`) does not stop the demo.
    fn print(&self, lines: impl IntoIterator<Item = String>) {
        let mut writer = self.writer.borrow_mut();
        for line in lines {
            let _ = writeln!(writer, "{}", line.trim_end());
            self.written.replace(!line.is_empty());
        }
        let _ = writer.flush();
    }
}

/// Breaks a line that is too long at its spaces, and indents the rest. Shorter lines keep their spaces.
fn wrap(line: &str, width: usize, indent: usize) -> Vec<String> {
    if line.chars().count() <= width {
        return vec![line.to_owned()];
    }
    let leading = line.len() - line.trim_start().len();
    let (mut done, mut current, mut gap) = (vec![], " ".repeat(leading), "");
    for word in line.split_whitespace() {
        if !gap.is_empty() && current.chars().count() + 1 + word.chars().count() > width {
            done.push(std::mem::replace(&mut current, " ".repeat(leading + indent)));
            gap = "";
        }
        current = current + gap + word;
        gap = " ";
    }
    done.push(current);
    done
}
