use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("probe_barrier");
}

#[test]
fn reference_by_hand() {
    let p = wgquant::shaders::probe_barrier::Params { first: 2, count: 1, rounds: 1 };
    let mut x = vec![0; 1024];
    x[..3].copy_from_slice(&[5, 6, 7]);
    let mut out = vec![9; 1024];
    wgquant::reference::probe_barrier::probe_barrier(&p, wgquant::shaders::probe_barrier::Format::Wg32, &x, &mut out);
    // all = 11, odd: element i takes element (i + 2) % 2 = i.
    assert_eq!(out[..3], [3 * 5 + 11, 3 * 6 + 11, 0]);
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let x = d.alloc(DType::U32, [1024]).unwrap();
    let out = d.alloc(DType::U32, [3, 1024]).unwrap();
    let run = |threads, first| kernels::probe_barrier(&mut Plan::new(&d), &x, &out, threads, first, 1);
    assert!(run(32, 1022).is_ok());
    assert!(matches!(run(32, 1023).unwrap_err(), Error::Argument { .. }));
    assert!(matches!(run(32, 0).unwrap_err(), Error::Argument { .. }));
    assert!(run(31, 1).unwrap_err().to_string().contains("31"));
}
