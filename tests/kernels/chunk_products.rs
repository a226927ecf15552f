use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, SsdDims};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("chunk_products");
}

/// The text of the form on matrix units, with their products in plain code.
#[test]
fn emulated_coop_matches_reference() {
    super::common::check_variant("chunk_products", "coop_emulated");
    super::common::check_variant("chunk_products", "half_coop_emulated");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 8, groups: 2, state: 12, chunk: 3 };

/// The argument refused for these shapes of xbc and products.
fn refused(shapes: [[usize; 2]; 2], dims: SsdDims) -> String {
    refused_of([DType::F32; 2], shapes, dims)
}

/// Likewise, of these types.
fn refused_of([x, p]: [DType; 2], shapes: [[usize; 2]; 2], dims: SsdDims) -> String {
    let d = Device::Cpu;
    let (xbc, products) = (d.alloc(x, shapes[0]).unwrap(), d.alloc(p, shapes[1]).unwrap());
    match kernels::chunk_products(&mut Plan::new(&d), &xbc, &products, dims) {
        Ok(()) => "none".to_owned(),
        Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg.to_owned(),
        Err(Error::Argument { what, .. }) => what,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_arguments() {
    assert_eq!(refused([[5, 80], [5, 8]], DIMS), "none");
    assert_eq!(refused([[5, 79], [5, 8]], DIMS), "xbc");
    assert_eq!(refused([[5, 80], [5, 6]], DIMS), "products");
    assert_eq!(refused([[5, 80], [5, 8]], SsdDims { state: 10, ..DIMS }), "chunk_products: `dims`");
    assert_eq!(refused_of([DType::F16; 2], [[5, 80], [5, 16]], DIMS), "none");
    assert_eq!(refused_of([DType::F16; 2], [[5, 80], [5, 8]], DIMS), "products");
    assert_eq!(refused_of([DType::F16, DType::F32], [[5, 80], [5, 16]], DIMS), "products");
}
