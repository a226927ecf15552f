//! Switches of GPTQ.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Switches of [`super::gptq`]; each but `damping` is measured in the ablation table of docs/quality.md.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GptqOptions {
    /// Added to the diagonal of the second moments, as a part of its mean.
    pub damping: f64,
    /// Round the inputs of largest second moment first. Groups stay where they are (static).
    pub act_order: bool,
    /// Candidates for each scale; 1 takes the largest weight.
    pub scale_steps: usize,
    /// Rounds of refining codes and scales afterwards; each costs twice what GPTQ itself does. 0 leaves it out.
    pub sweeps: usize,
    /// Aim at the output of the original model on its own inputs (GPTAQ, arXiv:2504.02692), not at that of the
    /// original weights on the quantized model's inputs. Of inputs with fewer than 32 calibrated tokens each only in part, with up to 8
    /// not at all.
    pub asymmetric: bool,
}

/// Candidates for a scale and sweeps at most: far more than help.
const MOST: usize = 1000;

impl GptqOptions {
    /// Refuses numbers that would wreck a model in silence, or never come to an end.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the number.
    pub(crate) fn check(&self) -> Result<()> {
        if !(self.damping > 0.0 && self.damping <= 1.0) {
            return Err(Error::argument("gptq.damping", format!("{}, not above 0 and up to 1", self.damping)));
        }
        if self.scale_steps == 0 {
            return Err(Error::argument("gptq.scale_steps", "0; 1 takes the largest weight"));
        }
        for (what, n) in [("scale_steps", self.scale_steps), ("sweeps", self.sweeps)] {
            if n > MOST {
                return Err(Error::argument(format!("gptq.{what}"), format!("{n}, at most {MOST}")));
            }
        }
        Ok(())
    }
}

impl Default for GptqOptions {
    fn default() -> Self {
        Self { damping: 0.05, act_order: true, scale_steps: 48, sweeps: 4, asymmetric: true }
    }
}
