//! What an adapter can do, read once at run time, and masks over it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Capabilities that select shader variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// 16-bit floats in shaders (`enable f16`).
    pub f16: bool,
    /// Subgroup operations; smallest and largest subgroup size. Where both are 32, a workgroup may have 1024 threads.
    pub subgroups: Option<(u32, u32)>,
    /// Packed int8 dot products (a language feature: always there, maybe emulated by the driver).
    pub packed_dot: bool,
    /// Cooperative matrices of 16 x 16 x 16 f16 with f32 sums, in subgroups that are always 32 threads, 48 KiB of
    /// workgroup memory and workgroups of 384.
    pub coop_matrix: bool,
    /// Timestamp queries.
    pub timestamps: bool,
}

impl Caps {
    /// What plain WebGPU guarantees.
    pub const BASELINE: Self =
        Self { f16: false, subgroups: None, packed_dot: false, coop_matrix: false, timestamps: false };

    /// Does the adapter have the capability of this word of `variants.toml`? `warps` are subgroups of always 32 threads.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        match word {
            "f16" => self.f16,
            "subgroups" => self.subgroups.is_some(),
            "warps" => self.subgroups == Some((32, 32)),
            "packed_dot" => self.packed_dot,
            "coop_matrix" => self.coop_matrix,
            _ => false,
        }
    }

    /// The capabilities left by `mask`: `baseline` leaves none, a comma-separated list leaves those it names.
    ///
    /// # Errors
    /// [`Error::Argument`] for a word that is no capability, or none at all.
    pub fn masked(self, mask: &str) -> Result<Self> {
        if mask.trim().is_empty() {
            return Err(Error::argument(
                "--caps",
                "names no capability; pass baseline for none, or leave it out for all",
            ));
        }
        let mut kept = Self { timestamps: self.timestamps, ..Self::BASELINE };
        for word in mask.split(',').map(str::trim).filter(|w| !w.is_empty() && *w != "baseline") {
            match word {
                "f16" => kept.f16 = self.f16,
                "subgroups" => kept.subgroups = self.subgroups,
                "packed_dot" => kept.packed_dot = self.packed_dot,
                "coop_matrix" => kept.coop_matrix = self.coop_matrix,
                other => {
                    return Err(Error::argument(
                        "--caps",
                        format!(
                            "`{other}` is not a capability; use baseline or a list of f16, subgroups, packed_dot, coop_matrix"
                        ),
                    ));
                }
            }
        }
        Ok(kept)
    }
}
