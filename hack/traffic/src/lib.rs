//! Traffic through both front Services: the client, its records, and the results.

pub mod load;
mod probe;
pub mod record;
pub mod report;
