//! What quantizing a module loses.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The table of losses in the directory of a model that GPTQ quantized.
pub const LOSSES_FILE: &str = "wgquant_losses.json";

/// Version of its layout.
const FORMAT: u32 = 1;

/// One module's line in the table of losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleLoss {
    /// Module.
    pub module: String,
    /// Bits of a code.
    pub bits: usize,
    /// Inputs a scale.
    pub group: usize,
    /// Part of an output's energy that rounding lost: `tr(E H Eᵀ) / tr(T H Tᵀ)` with H the second moments of the quantized model's
    /// inputs, without damping, T the weight that GPTQ rounded and E what its result is off from that. With `asymmetric` T is not the
    /// original weight, but what comes closest to the original model's outputs from these inputs; what T itself is off from them, which
    /// no codes mend, is not in it.
    pub loss: f64,
    /// Damping it took.
    pub damping: f64,
    /// Seconds choosing codes took; the preparation it shares with other modules of one input is not in it.
    pub seconds: f64,
    /// The loss of parts of the rows, by name: in_proj's z, x, B, C and dt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<(String, f64)>,
}

impl ModuleLoss {
    /// The text of [`LOSSES_FILE`]: `{"format": 1, "modules": [{"module", "bits", "group", "loss", "damping", "segments":
    /// {"z": ..}}]}` in the order modules were quantized. Times are left out: the same input gives the same bytes.
    #[must_use]
    pub fn file(losses: &[Self]) -> String {
        let line = |l: &Self| {
            let mut line = json!({
                "module": l.module, "bits": l.bits, "group": l.group, "loss": l.loss, "damping": l.damping
            });
            if !l.segments.is_empty() {
                let segments: Map<String, Value> = l.segments.iter().map(|(n, v)| (n.clone(), json!(v))).collect();
                line["segments"] = Value::Object(segments);
            }
            line
        };
        format!("{:#}\n", json!({ "format": FORMAT, "modules": losses.iter().map(line).collect::<Vec<_>>() }))
    }
}

impl std::fmt::Display for ModuleLoss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { module, bits, group, loss, damping, seconds, segments } = self;
        write!(
            f,
            "{module:<44} {bits} bits, group {group:>5}, loss {loss:.3e}, damping {damping:.2e}, {seconds:.1} s"
        )?;
        segments.iter().try_for_each(|(name, loss)| write!(f, " {name} {loss:.2e}"))
    }
}
