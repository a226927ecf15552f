use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, SsdDims};
use wgquant::tensor::DType;

use super::common::{assert_close, check_all, golden, gpu};

#[test]
fn matches_reference() {
    check_all("chunk_cumsum");
}

#[test]
fn dt_matches_golden_values() {
    let g = golden();
    for name in ["a", "b", "c"] {
        let [raw, bias, a_log, want] = ["dt_raw", "dt_bias", "A_log", "dt"].map(|t| g.f32(&format!("ssd.{name}.{t}")));
        let heads = bias.len();
        let tokens = raw.len() / heads;
        let dims = SsdDims { heads, head_dim: 4, groups: 1, state: 4, chunk: 16 };
        // The fixture is [tokens, heads].
        let want: Vec<f32> = (0..raw.len()).map(|i| want[i % tokens * heads + i / tokens]).collect();
        for (d, nmse) in [(Device::Cpu, 1e-12), (gpu(), 1e-11)] {
            let raw = d.upload_f32([tokens, heads], &raw).unwrap();
            let raw = Columns::new("test", &raw, 0, heads).unwrap();
            let [bias, a_log] = [&bias, &a_log].map(|v| d.upload_f32([heads], v).unwrap());
            let [dt, sums] = [(); 2].map(|()| d.alloc(DType::F32, [heads, tokens]).unwrap());
            let mut plan = Plan::new(&d);
            let limit = (0.0, f32::INFINITY);
            kernels::chunk_cumsum(&mut plan, &raw, &bias, &a_log, &dt, &sums, dims, limit).unwrap();
            plan.record().unwrap().run().unwrap();
            assert_close(&block_on(d.read_f32(&dt)).unwrap(), &want, nmse);
        }
    }
}

/// The argument refused: columns of dt_raw, then the shapes of dt_bias, a_log, dt and da_cumsum.
fn refused(width: usize, shapes: [[usize; 2]; 4], dims: SsdDims, limit: (f32, f32)) -> String {
    let d = Device::Cpu;
    let raw = d.alloc(DType::F32, [5, 6]).unwrap();
    let raw = Columns::new("test", &raw, 0, width).unwrap();
    let [bias, a_log, dt, sums] = shapes.map(|s| d.alloc(DType::F32, s).unwrap());
    match kernels::chunk_cumsum(&mut Plan::new(&d), &raw, &bias, &a_log, &dt, &sums, dims, limit) {
        Ok(()) => "none".to_owned(),
        Err(Error::Shape { arg, .. }) => arg.to_owned(),
        Err(Error::Argument { what, .. }) => what,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_arguments() {
    let dims = SsdDims { heads: 4, head_dim: 8, groups: 2, state: 8, chunk: 3 };
    let (v, m, all) = ([1, 4], [4, 5], (0.0, f32::INFINITY));
    assert_eq!(refused(4, [v, v, m, m], dims, all), "none");
    assert_eq!(refused(3, [v, v, m, m], dims, all), "dt_raw");
    assert_eq!(refused(4, [[1, 3], v, m, m], dims, all), "dt_bias");
    assert_eq!(refused(4, [v, [1, 5], m, m], dims, all), "a_log");
    assert_eq!(refused(4, [v, v, [5, 4], m], dims, all), "dt");
    assert_eq!(refused(4, [v, v, m, [4, 4]], dims, all), "da_cumsum");
    assert_eq!(refused(4, [v, v, m, m], dims, (1.0, 0.5)), "chunk_cumsum: `dt_limit`");
    assert_eq!(refused(4, [v, v, m, m], dims, (f32::NAN, 0.5)), "chunk_cumsum: `dt_limit`");
    for bad in [
        SsdDims { chunk: 0, ..dims },
        SsdDims { groups: 3, ..dims },
        SsdDims { state: 6, ..dims },
        SsdDims { head_dim: 9, ..dims },
    ] {
        assert_eq!(refused(4, [v, v, m, m], bad, all), "chunk_cumsum: `dims`");
    }
}
