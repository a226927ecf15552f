use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, ScaledWeight, TablePart};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("embed_codes");
}

fn error(ids: DType, codes: (DType, usize), scales: usize, out: [usize; 2]) -> Error {
    let d = Device::Cpu;
    let ids = d.alloc(ids, [3]).unwrap();
    let codes = d.alloc(codes.0, [codes.1, 8]).unwrap();
    let scales = kernels::upload_scales(&d, [scales, 1], &vec![1.0; scales]).unwrap();
    let out = d.alloc(DType::F32, out).unwrap();
    let table = ScaledWeight { codes: &codes, scales: &scales, group: 8 };
    kernels::embed_codes(&mut Plan::new(&d), &ids, table, TablePart::whole(codes.shape.rows()), &out).unwrap_err()
}

#[test]
fn rejects_ids_that_are_not_integers() {
    assert!(matches!(error(DType::F32, (DType::I8, 5), 5, [3, 8]), Error::DType { arg: "ids", .. }));
}

#[test]
fn rejects_float_table() {
    assert!(matches!(error(DType::U32, (DType::F32, 5), 5, [3, 8]), Error::DType { arg: "codes", .. }));
}

#[test]
fn rejects_scales_of_another_length() {
    assert!(matches!(error(DType::U32, (DType::I8, 5), 9, [3, 8]), Error::Shape { arg: "weight_scales", .. }));
}

#[test]
fn rejects_empty_table() {
    assert_eq!(error(DType::U32, (DType::I8, 0), 0, [3, 8]).to_string(), "embed_codes: `codes`: it has no rows");
}

#[test]
fn rejects_output_of_another_shape() {
    assert!(matches!(error(DType::U32, (DType::I8, 5), 5, [4, 8]), Error::Shape { arg: "out", .. }));
}
