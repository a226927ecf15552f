use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, Epilogue, Halves};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("matmul_halves");
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let refused = |k: usize, width: usize, first: usize| {
        let (x, weight) = (Halves::of_rows(&d, 16, 5, 2).unwrap(), Halves::of_rows(&d, 8, k, 1).unwrap());
        let out = d.alloc(DType::F32, [16, width]).unwrap();
        let columns = Columns::new("test", &out, first, 8).unwrap();
        match kernels::matmul_halves(&mut Plan::new(&d), &x, &weight, columns, Epilogue::Store) {
            Ok(()) => "none".to_owned(),
            Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg.to_owned(),
            Err(e) => e.to_string(),
        }
    };
    assert_eq!(refused(5, 8, 0), "none");
    assert_eq!(refused(5, 20, 12), "none");
    assert_eq!(refused(6, 8, 0), "weight");
    assert!(refused(5, 20, 10).contains("not of whole 16 bytes"), "{}", refused(5, 20, 10));
    assert!(refused(5, 18, 8).contains("not of whole 16 bytes"), "{}", refused(5, 18, 8));
}
