use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("kv_append");
}

#[test]
fn reference_keeps_other_rows() {
    let d = Device::Cpu;
    let k = d.upload_f32([2, 1], &[1.0, 2.0]).unwrap();
    let v = d.upload_f32([2, 1], &[3.0, 4.0]).unwrap();
    let cursor = d.upload_words(DType::U32, [1], &[1]).unwrap();
    let caches = [0.5, 0.25].map(|x| d.upload_f32([4, 1], &[x; 4]).unwrap());
    let mut plan = Plan::new(&d);
    kernels::kv_append(&mut plan, &k, &v, &cursor, &caches[0], &caches[1]).unwrap();
    plan.record().unwrap().run().unwrap();
    assert_eq!(block_on(d.read_f32(&caches[0])).unwrap(), [0.5, 1.0, 2.0, 0.5]);
    assert_eq!(block_on(d.read_f32(&caches[1])).unwrap(), [0.25, 3.0, 4.0, 0.25]);
}

/// The argument refused for these shapes of v, cursor, k_cache and v_cache.
fn refused(shapes: [[usize; 2]; 4], cursor_type: DType) -> &'static str {
    let d = Device::Cpu;
    let k = d.alloc(DType::F32, [2, 8]).unwrap();
    let [v, k_cache, v_cache] = [shapes[0], shapes[2], shapes[3]].map(|s| d.alloc(DType::F32, s).unwrap());
    let cursor = d.alloc(cursor_type, shapes[1]).unwrap();
    match kernels::kv_append(&mut Plan::new(&d), &k, &v, &cursor, &k_cache, &v_cache) {
        Ok(()) => "none",
        Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_shapes() {
    assert_eq!(refused([[2, 8], [1, 1], [5, 8], [5, 8]], DType::U32), "none");
    assert_eq!(refused([[1, 8], [1, 1], [5, 8], [5, 8]], DType::U32), "v");
    assert_eq!(refused([[2, 8], [1, 2], [5, 8], [5, 8]], DType::U32), "cursor");
    assert_eq!(refused([[2, 8], [1, 1], [5, 7], [5, 8]], DType::U32), "k_cache");
    assert_eq!(refused([[2, 8], [1, 1], [5, 8], [4, 8]], DType::U32), "v_cache");
    assert_eq!(refused([[2, 8], [1, 1], [5, 8], [5, 8]], DType::F32), "cursor");
}
