//! Measures how plain the English of comments, documents and messages is.
//!
//! [`rules`] counts three kinds of findings per 1,000 words: noun clauses in place of nouns, sentences that start with
//! a vague word, and idioms. [`extract`] takes the text out of a file, without code and quoted text. [`areas`] assigns
//! each file to an area, and holds the limits of the areas. The rules that a writer follows are in `CONTRIBUTING.md`.

pub mod areas;
pub mod extract;
pub mod rules;
pub mod survey;
pub mod tokens;
