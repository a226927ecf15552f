//! The token embedding on a device, in parts where it is larger than a binding.

use super::linear::{codes, floats};
use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::kernels::{self, ScaledWeight, TablePart};
use crate::model::Linear;
use crate::tensor::{Shape, Tensor};

/// Token embedding on a device.
pub(in super::super) struct DeviceEmbedding {
    vocab: usize,
    parts: Vec<Part>,
}

/// Rows of it from `first` on.
struct Part {
    first: usize,
    table: DeviceTensor,
    /// Of codes: scales, and the columns that share one.
    scales: Option<(DeviceTensor, usize)>,
}

impl DeviceEmbedding {
    pub(super) fn upload(device: &Device, linear: &Linear) -> Result<Self> {
        Self::place(device, linear).map_err(|e| e.named("the embedding"))
    }

    fn place(device: &Device, linear: &Linear) -> Result<Self> {
        match linear {
            Linear::Float(tensor) => Self::float(device, tensor),
            Linear::Quantized(q) => {
                let group = q.group.len(q.codes.shape.cols());
                let parts = codes(device, q, if q.bits > 4 { 8 } else { 4 }, &q.scales.to_f32()?)?.into_iter();
                let part = |(first, table, scales)| Part { first, table, scales: Some((scales, group)) };
                Ok(Self { vocab: q.codes.shape.rows(), parts: parts.map(part).collect() })
            }
        }
    }

    fn float(device: &Device, tensor: &Tensor) -> Result<Self> {
        let parts = floats(device, tensor)?.into_iter().map(|(first, table)| Part { first, table, scales: None });
        Ok(Self { vocab: tensor.shape.rows(), parts: parts.collect() })
    }

    /// Rows of `ids` into `out`: a launch for each part, which leaves the others' rows alone.
    pub(in super::super) fn apply(&self, plan: &mut Plan, ids: &DeviceTensor, out: &DeviceTensor) -> Result<()> {
        for Part { first, table, scales } in &self.parts {
            let part = TablePart { first: *first, vocab: self.vocab };
            match scales {
                None => kernels::embed(plan, ids, table, part, out)?,
                Some((scales, group)) => {
                    let table = ScaledWeight { codes: table, scales, group: *group };
                    kernels::embed_codes(plan, ids, table, part, out)?;
                }
            }
        }
        Ok(())
    }

    /// `[vocab, hidden]`.
    pub(super) fn shape(&self) -> Shape {
        Shape::from([self.vocab, self.parts.first().map_or(0, |p| p.table.shape.cols())])
    }

    /// Bytes of a row with its scales.
    pub(in super::super) fn row_bytes(&self) -> usize {
        self.bytes() / self.vocab.max(1)
    }

    /// Bytes on the device.
    pub(in super::super) fn bytes(&self) -> usize {
        self.parts.iter().map(|p| p.table.bytes() + p.scales.as_ref().map_or(0, |(scales, _)| scales.bytes())).sum()
    }
}
