//! Trained models beside the repository, which are too large to be in it.

use std::path::{Path, PathBuf};

/// `../shared/models/NAME`, or nothing, said aloud; `WGQUANT_REQUIRE_MODELS=1` makes that a failure.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models").join(name);
    if dir.is_dir() {
        return Some(dir);
    }
    let variable = "WGQUANT_REQUIRE_MODELS";
    assert!(std::env::var_os(variable).is_none_or(|v| v != "1"), "{variable}=1, but {} is absent", dir.display());
    println!("SKIPPED: {} is absent", dir.display());
    None
}
