//! Writes a quantized model as a plain float one: `cargo run --example dequantize -- QUANTIZED OUT`.
//!
//! Each value is `code * scale`, rounded to the scales' type, which is what compressed-tensors' decompression
//! gives. Rotations that stay in the graph stay in `config.json`: only this program applies them.

use std::path::Path;

use wgquant::model::{Layer, Linear, Model, ModelFile, WriteOptions, write_model};
use wgquant::tensor::Tensor;

fn float(linear: &mut Linear) -> wgquant::Result<()> {
    if let Linear::Quantized(q) = linear {
        *linear = Linear::Float(Tensor::from_f32_as(q.scales.dtype(), q.codes.shape, &q.dequantize()?)?);
    }
    Ok(())
}

fn float_layer(layer: &mut Layer) -> wgquant::Result<()> {
    layer.linears_mut().into_iter().try_for_each(|(_, linear)| float(linear))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = args.as_slice() else { return Err("usage: dequantize QUANTIZED OUT".into()) };
    let file = ModelFile::open(Path::new(from))?;
    let mut model = Model::load(&file)?;
    float(&mut model.embedding)?;
    model.head.iter_mut().try_for_each(float)?;
    model.layers.iter_mut().try_for_each(float_layer)?;
    let written = write_model(file.checkpoint().config(), &model, Path::new(to), &WriteOptions::like(&file)?)?.written;
    println!("{}: {} bytes of tensors", written.dir.display(), written.tensor_bytes);
    Ok(())
}
