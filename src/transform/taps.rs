//! Which of the runtime's taps a rewrite changes, though the model stays.

use super::{Exponent, Permutation, Rotation, Smooth, Transform};
use crate::model::OnlineRotation;

/// How far a rewrite that nobody knows may go: everywhere, by numbers of its own.
const ANY: Transform = {
    let (by, turned) = (Some(Exponent::Search), Some(Rotation::Given));
    Transform {
        fold_norms: true,
        smooth: Smooth { norms: by, gated_norm: by, conv: by, relu2: by, values: by },
        permute: Some(Permutation::Sort),
        values: turned,
        keys: turned,
        residual: turned,
        online: OnlineRotation { out_proj: None, down_proj: None },
    }
};

impl Transform {
    /// Does a tap hold the same in a model under `one` and in the same model under `other`? `None`: under rewrites that
    /// nobody knows. `op` names the tap within its block (`norm`, `up_proj`); `hidden` is the stream. Rewrites by what
    /// calibration measured are taken for different ones: the same words do not say that the texts were the same.
    #[must_use]
    pub fn same_basis(one: Option<&Self>, other: Option<&Self>, op: &str) -> bool {
        let [one, other] = [one, other].map(|transform| transform.unwrap_or(&ANY).seen_in(op));
        let given = [one.values, one.keys, one.residual].contains(&Some(Rotation::Given));
        one == other && !one.needs_stats() && !given
    }

    /// The part of it that changes the values of a tap.
    fn seen_in(&self, op: &str) -> Self {
        let (t, smooth) = (*self, self.smooth);
        let none = Self::NONE;
        let permuted = Self { permute: t.permute, ..none };
        match op {
            "hidden" => Self { residual: t.residual, ..none },
            "norm" | "norm_f" => Self {
                fold_norms: t.fold_norms,
                residual: t.residual,
                smooth: Smooth { norms: smooth.norms.filter(|_| op == "norm"), ..Smooth::NONE },
                ..none
            },
            "in_proj" => Self { smooth: Smooth { conv: smooth.conv, ..Smooth::NONE }, ..permuted },
            "conv" | "dt" | "da_cumsum" | "chunk_state" | "state_passing" | "scan" => permuted,
            "gated_norm" => Self { smooth: Smooth { gated_norm: smooth.gated_norm, ..Smooth::NONE }, ..permuted },
            "up_proj" => Self { smooth: Smooth { relu2: smooth.relu2, ..Smooth::NONE }, ..permuted },
            // Of the gated norm or of up_proj.
            "rotated" => Self {
                smooth: Smooth { gated_norm: smooth.gated_norm, relu2: smooth.relu2, ..Smooth::NONE },
                online: t.online,
                ..permuted
            },
            "q_proj" | "k_proj" => Self { keys: t.keys, ..none },
            "v_proj" | "attention" => {
                Self { values: t.values, smooth: Smooth { values: smooth.values, ..Smooth::NONE }, ..none }
            }
            "chunk_products" | "logits" => none,
            _ => t,
        }
    }
}
