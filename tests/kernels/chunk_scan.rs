use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, SsdDims};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("chunk_scan");
}

/// The text of the form on matrix units, with their products in plain code.
#[test]
fn emulated_coop_matches_reference() {
    super::common::check_variant("chunk_scan", "coop_emulated");
    super::common::check_variant("chunk_scan", "half_coop_emulated");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 8, groups: 2, state: 12, chunk: 3 };

/// The argument refused for these shapes of xbc, products, dt, da_cumsum, entering, d and y.
fn refused(shapes: [[usize; 2]; 7], dims: SsdDims) -> String {
    refused_of([DType::F32; 4], shapes, dims)
}

/// Likewise, xbc, products, entering and y of these types.
fn refused_of([x, p, e, y]: [DType; 4], shapes: [[usize; 2]; 7], dims: SsdDims) -> String {
    let device = Device::Cpu;
    let types = [x, p, DType::F32, DType::F32, e, DType::F32, y];
    let tensors: Vec<_> = shapes.into_iter().zip(types).map(|(s, t)| device.alloc(t, s).unwrap()).collect();
    let [xbc, products, dt, sums, entering, d, y] = &tensors[..] else { unreachable!("seven") };
    match kernels::chunk_scan(&mut Plan::new(&device), xbc, products, dt, sums, entering, d, y, dims) {
        Ok(()) => "none".to_owned(),
        Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg.to_owned(),
        Err(Error::Argument { what, .. }) => what,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_arguments() {
    let (x, p, m, s, d, y) = ([5, 80], [5, 8], [4, 5], [2, 384], [1, 4], [5, 32]);
    assert_eq!(refused([x, p, m, m, s, d, y], DIMS), "none");
    assert_eq!(refused([[5, 81], p, m, m, s, d, y], DIMS), "xbc");
    assert_eq!(refused([x, [5, 6], m, m, s, d, y], DIMS), "products");
    assert_eq!(refused([x, p, [4, 6], m, s, d, y], DIMS), "dt");
    assert_eq!(refused([x, p, m, [3, 5], s, d, y], DIMS), "da_cumsum");
    assert_eq!(refused([x, p, m, m, [3, 384], d, y], DIMS), "entering");
    assert_eq!(refused([x, p, m, m, s, [1, 5], y], DIMS), "d");
    assert_eq!(refused([x, p, m, m, s, d, [5, 80]], DIMS), "y");
    assert_eq!(refused([x, p, m, m, s, d, y], SsdDims { head_dim: 6, ..DIMS }), "chunk_scan: `dims`");
    let (f16, f32) = (DType::F16, DType::F32);
    let halves = [x, [5, 16], m, m, s, d, y];
    let of = |types: [DType; 4], shapes| refused_of(types, shapes, DIMS);
    assert_eq!(of([f16; 4], halves), "none");
    assert_eq!(of([f16; 4], [x, p, m, m, s, d, y]), "products");
    assert_eq!(of([f16, f32, f16, f16], halves), "products");
    assert_eq!(of([f16, f16, f32, f16], halves), "entering");
    assert_eq!(of([f16, f16, f16, f32], halves), "y");
    assert_eq!(of([f32, f32, f16, f32], [x, p, m, m, s, d, y]), "entering");
    assert_eq!(of([f32, f32, f32, f16], [x, p, m, m, s, d, y]), "y");
    assert_eq!(of([DType::BF16, f32, f32, f32], [x, p, m, m, s, d, y]), "xbc");
}
