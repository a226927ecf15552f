use pollster::block_on;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{Part, Update, rank_update};

#[test]
fn matches_reference() {
    super::common::check_all("rank_update");
}

/// GPTQ's codes must not depend on the size of its blocks.
#[test]
fn cutting_the_depth_changes_nothing() {
    for device in [super::common::gpu(), Device::Cpu] {
        let (rows, cols, depth) = (70, 40, 50);
        let values = |n: usize, f: f32| (0..n).map(|i| (i as f32 * f).sin()).collect::<Vec<f32>>();
        let a = device.upload_f32([depth, rows], &values(depth * rows, 0.37)).unwrap();
        let b = device.upload_f32([depth, cols], &values(depth * cols, 0.53)).unwrap();
        let product = |cuts: &[usize]| {
            let c = device.upload_f32([rows, cols], &values(rows * cols, 0.71)).unwrap();
            let mut plan = Plan::new(&device);
            for cut in cuts.windows(2) {
                let how = Update { rows, cols, depth: cut[1] - cut[0], ..Update::default() };
                let part = |t| Part::new(t, cut[0], 0);
                rank_update(&mut plan, part(&a), part(&b), Part::new(&c, 0, 0), &how).unwrap();
            }
            plan.record().unwrap().run().unwrap();
            block_on(device.read(&c)).unwrap()
        };
        assert_eq!(product(&[0, 50]), product(&[0, 1, 17, 33, 50]), "{}", device.name());
    }
}

#[test]
fn rejects_parts_that_are_not_there() {
    let d = Device::Cpu;
    let t = d.upload_f32([4, 4], &[0.0; 16]).unwrap();
    let out = d.upload_f32([4, 4], &[0.0; 16]).unwrap();
    let how = Update { rows: 3, cols: 2, depth: 4, ..Update::default() };
    let at = |row, col| Part::new(&t, row, col);
    let run = |a, b, c| rank_update(&mut Plan::new(&d), a, b, c, &how).map_err(|e| e.to_string());
    assert!(run(at(0, 1), at(0, 2), Part::new(&out, 1, 2)).is_ok());
    assert!(run(at(0, 2), at(0, 2), Part::new(&out, 1, 2)).unwrap_err().contains("`a`"));
    assert!(run(at(0, 1), at(1, 2), Part::new(&out, 1, 2)).unwrap_err().contains("`b`"));
    assert!(run(at(0, 1), at(0, 2), Part::new(&out, 2, 2)).unwrap_err().contains("`c`"));
}
