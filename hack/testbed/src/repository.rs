//! Folders of the repository that this crate was compiled in.

use std::path::Path;

/// The folder `hack`.
pub fn hack_dir() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The root of the repository.
pub fn root() -> &'static Path {
    hack_dir().parent().unwrap_or(hack_dir())
}
