use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, Epilogue};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("split_k_reduce");
}

#[test]
fn rejects_sums_that_are_not_whole_slices_or_vec4s() {
    let d = Device::Cpu;
    let refused = |rows: usize, cols: usize, first: usize, says: &str| {
        let sums = d.alloc(DType::F32, [rows, cols]).unwrap();
        let out = d.alloc(DType::F32, [4, 12]).unwrap();
        let out = Columns::new("test", &out, first, cols).unwrap();
        let error = kernels::split_k_reduce(&mut Plan::new(&d), &sums, &out, Epilogue::Store).unwrap_err();
        assert!(matches!(&error, Error::Argument { .. }) && error.to_string().contains(says), "{error}");
    };
    refused(6, 8, 0, "6 rows are not whole slices of 4");
    refused(8, 6, 0, "6 columns from 0 of 12 are not whole vec4s");
    refused(8, 8, 2, "8 columns from 2 of 12 are not whole vec4s");
}

#[test]
fn rejects_integers_and_other_shapes() {
    let d = Device::Cpu;
    let out = d.alloc(DType::F32, [4, 8]).unwrap();
    let reduce =
        |sums| kernels::split_k_reduce(&mut Plan::new(&d), &sums, &Columns::from(&out), Epilogue::Store).unwrap_err();
    let error = reduce(d.alloc(DType::U32, [8, 8]).unwrap());
    assert!(matches!(error, Error::DType { arg: "sums", .. }), "{error}");
    let error = reduce(d.alloc(DType::F32, [8, 4]).unwrap());
    assert!(matches!(error, Error::Shape { arg: "out", .. }), "{error}");
}
