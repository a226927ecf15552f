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
    /// What both do to a model, this one and then `later`, for [`Transform::same_basis`]: where both do something, nobody else does the
    /// same. Norms that are folded stay so.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        fn both<T>(one: Option<T>, later: Option<T>, of_its_own: Option<T>) -> Option<T> {
            if one.is_some() && later.is_some() { of_its_own } else { one.or(later) }
        }
        let (a, b) = (self.smooth, later.smooth);
        Self {
            fold_norms: self.fold_norms || later.fold_norms,
            smooth: Smooth {
                norms: both(a.norms, b.norms, ANY.smooth.norms),
                gated_norm: both(a.gated_norm, b.gated_norm, ANY.smooth.gated_norm),
                conv: both(a.conv, b.conv, ANY.smooth.conv),
                relu2: both(a.relu2, b.relu2, ANY.smooth.relu2),
                values: both(a.values, b.values, ANY.smooth.values),
            },
            permute: both(self.permute, later.permute, ANY.permute),
            values: both(self.values, later.values, ANY.values),
            keys: both(self.keys, later.keys, ANY.keys),
            residual: both(self.residual, later.residual, ANY.residual),
            // A model that has some is not transformed again.
            online: if self.online == OnlineRotation::default() { later.online } else { self.online },
        }
    }

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
