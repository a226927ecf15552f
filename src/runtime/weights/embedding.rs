//! The token embedding on a device, in parts where it is larger than a binding.

use super::linear::{codes, dequantized, floats};
use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::kernels::{self, TablePart};
use crate::model::Linear;
use crate::tensor::{DType, Tensor};

/// Token embedding on a device.
pub(in super::super) struct DeviceEmbedding {
    vocab: usize,
    parts: Vec<Part>,
}

/// Rows of it from `first` on; codes have scales.
struct Part {
    first: usize,
    table: DeviceTensor,
    scales: Option<DeviceTensor>,
}

impl DeviceEmbedding {
    pub(super) fn upload(device: &Device, linear: &Linear) -> Result<Self> {
        Self::place(device, linear).map_err(|e| e.named("the embedding"))
    }

    fn place(device: &Device, linear: &Linear) -> Result<Self> {
        match linear {
            Linear::Float(tensor) => Self::float(device, tensor),
            Linear::Quantized(q) if q.bits > 4 && q.scales.shape().cols() == 1 => {
                let parts = codes(device, q, 8, &q.scales.to_f32()?)?.into_iter();
                let part = |(first, table, scales): (_, _, DeviceTensor)| {
                    let scales = scales.view(DType::F32, [scales.shape.rows()])?;
                    Ok(Part { first, table, scales: Some(scales) })
                };
                Ok(Self { vocab: q.codes.shape.rows(), parts: parts.map(part).collect::<Result<_>>()? })
            }
            Linear::Quantized(q) => Self::float(device, &dequantized(q)?),
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
                Some(scales) => kernels::embed_w8(plan, ids, table, scales, part, out)?,
            }
        }
        Ok(())
    }

    /// Bytes of the rows on the device, scales aside.
    pub(in super::super) fn table_bytes(&self) -> usize {
        self.parts.iter().map(|p| p.table.bytes()).sum()
    }

    /// Bytes of one of them.
    pub(in super::super) fn row_bytes(&self) -> usize {
        self.parts.first().map_or(0, |p| p.table.row_words() * 4)
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        self.table_bytes() + self.parts.iter().filter_map(|p| p.scales.as_ref()).map(DeviceTensor::bytes).sum::<usize>()
    }
}
