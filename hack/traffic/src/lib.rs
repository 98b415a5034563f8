//! Traffic through the two front Services: the client that makes it, what it writes down, and what can be read off it.

pub mod load;
mod probe;
pub mod record;
pub mod report;
