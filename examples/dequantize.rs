//! Writes a quantized model as a plain float one: `cargo run --example dequantize -- QUANTIZED OUT`.
//!
//! Each value is `code * scale`, rounded to the scales' type, which is what compressed-tensors' decompression
//! gives. Rotations that stay in the graph stay in `config.json`: only this program applies them.

use std::path::Path;

use wgquant::model::{Layer, Linear, Mixer, Model, ModelFile, WriteOptions, dequantize, write_model};
use wgquant::tensor::Tensor;

fn float(linear: &mut Linear) -> wgquant::Result<()> {
    if let Linear::Quantized(q) = linear {
        *linear = Linear::Float(Tensor::from_f32_as(q.scales.dtype, q.codes.shape, &dequantize(q)?)?);
    }
    Ok(())
}

fn float_layer(layer: &mut Layer) -> wgquant::Result<()> {
    match &mut layer.mixer {
        Mixer::Mamba2(m) => [&mut m.in_proj, &mut m.out_proj].into_iter().try_for_each(float),
        Mixer::Attention(a) => {
            [&mut a.q_proj, &mut a.k_proj, &mut a.v_proj, &mut a.o_proj].into_iter().try_for_each(float)
        }
        Mixer::Mlp(m) => [&mut m.up_proj, &mut m.down_proj].into_iter().try_for_each(float),
    }
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
