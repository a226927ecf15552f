use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, ChannelSums, MAGNITUDE_BINS, Samples};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("channel_stats");
}

/// `[tokens, channels]` values of very different sizes.
fn values(tokens: usize, channels: usize) -> Vec<f32> {
    (0..tokens * channels).map(|i| (i as f32 * 0.37).sin() * 10f32.powi((i % channels) as i32 - 2)).collect()
}

/// Every power of every channel to f32 accuracy, over many launches: an NMSE sees the largest only.
#[test]
fn sums_are_those_of_f64_over_many_launches() {
    let (tokens, channels, launches) = (100, 5, 400);
    let x = values(tokens, channels);
    for device in [Device::Cpu, super::common::gpu()] {
        let to = ChannelSums::new(&device, channels).unwrap();
        let mut plan = Plan::new(&device);
        let at = Samples { stride: channels, offset: 0, outer: tokens, channels, inner: 1 };
        let on_device = device.upload_f32([tokens, channels], &x).unwrap();
        kernels::channel_stats(&mut plan, &on_device, at, &to).unwrap();
        let recording = plan.record().unwrap();
        (0..launches).for_each(|_| recording.run().unwrap());
        let sums = block_on(device.read_f32(&to.sums)).unwrap();
        let range = block_on(device.read_f32(&to.range)).unwrap();
        for c in 0..channels {
            let of: Vec<f64> = x.iter().skip(c).step_by(channels).map(|v| f64::from(*v)).collect();
            for power in 1..=4 {
                let want = of.iter().map(|v| v.powi(power)).sum::<f64>() * f64::from(launches);
                let size = of.iter().map(|v| v.powi(power).abs()).sum::<f64>() * f64::from(launches);
                let row = (power as usize - 1) * channels + c;
                let got = f64::from(sums[row]) + f64::from(sums[row + 4 * channels]);
                assert!((got - want).abs() < 3e-7 * size, "channel {c}, power {power}: {got} for {want}");
            }
            assert_eq!(f64::from(range[c]), of.iter().copied().fold(f64::MAX, f64::min));
            assert_eq!(f64::from(range[channels + c]), of.iter().copied().fold(f64::MIN, f64::max));
        }
    }
}

/// Bins are eighths of octaves, and every sample is in one.
#[test]
fn magnitudes_fall_into_their_bins() {
    let device = super::common::gpu();
    let x = [0.0, -0.0, 1.0, -1.0, 1.124, 1.125, 2.0, 1e-20, 3e38, -3e38];
    let to = ChannelSums::new(&device, 1).unwrap();
    let mut plan = Plan::new(&device);
    let at = Samples { stride: 0, offset: 0, outer: 1, channels: 1, inner: x.len() };
    kernels::channel_stats(&mut plan, &device.upload_f32([x.len()], &x).unwrap(), at, &to).unwrap();
    plan.record().unwrap().run().unwrap();
    let counts = block_on(device.read(&to.counts)).unwrap();
    let filled: Vec<(usize, u32)> = counts.iter().copied().enumerate().filter(|(_, n)| *n > 0).collect();
    let one = 40 * 8;
    assert_eq!(filled, [(0, 3), (one, 3), (one + 1, 1), (one + 8, 1), (MAGNITUDE_BINS - 1, 2)]);
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [4, 10]).unwrap();
    let refused = |at: Samples, channels| {
        let to = ChannelSums::new(&d, channels).unwrap();
        match kernels::channel_stats(&mut Plan::new(&d), &x, at, &to) {
            Ok(()) => "none".to_owned(),
            Err(Error::Shape { arg, .. }) => arg.to_owned(),
            Err(Error::Argument { what, .. }) => what,
            Err(e) => panic!("{e}"),
        }
    };
    let at = Samples { stride: 10, offset: 3, outer: 4, channels: 7, inner: 1 };
    assert_eq!(refused(at, 7), "none");
    assert_eq!(refused(at, 8), "range");
    assert_eq!(refused(Samples { offset: 4, ..at }, 7), "channel_stats: `at`");
    assert_eq!(refused(Samples { outer: 0, ..at }, 7), "channel_stats: `at`");
}
